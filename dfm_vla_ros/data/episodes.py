"""One demonstration: what was seen, measured and commanded, and the expert's clean targets."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError

FORMAT = 1


class EpisodeError(DfmVlaError):
    """An episode file that cannot be read, or an episode whose parts do not fit together."""


@dataclass(frozen=True)
class Episode:
    """T frames, one per control period; frame 0 is the start, at rest.

    Attributes:
        images: camera -> (T, H, W, 3) uint8, RGB.
        positions: (T, 14) measured joint positions [rad], grippers [m].
        commanded: (T, 14) the command in force at each frame, noise included.
        targets: (T, 14) the expert's clean target due at the time of each frame. The label for
            step k >= 1 at frame t is ``targets[min(t + k, T - 1)]``.
        task: name of the task.
        seed: of the layout (and of the noise).
        instruction: the task's sentence.
        success: whether the task was done.
        period_s: control period [s].
        poses: (T, P) where the objects are [m, and sines and cosines of angles]; None if unknown.
        pose_names: of the P columns.
    """

    images: dict[str, NDArray[np.uint8]]
    positions: NDArray[np.float64]
    commanded: NDArray[np.float64]
    targets: NDArray[np.float64]
    task: str
    seed: int
    instruction: str
    success: bool
    period_s: float
    poses: NDArray[np.float64] | None = None
    pose_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that all parts have the same number of frames."""
        length = len(self.positions)
        parts = {"commanded": self.commanded, "targets": self.targets, **self.images}
        if self.poses is not None:
            parts["poses"] = self.poses
        if (0 if self.poses is None else self.poses.shape[1]) != len(self.pose_names):
            raise EpisodeError(
                f"poses {None if self.poses is None else self.poses.shape} do not have a column "
                f"for each of the {len(self.pose_names)} pose names; give both or neither"
            )
        for name, part in parts.items():
            if len(part) != length:
                raise EpisodeError(
                    f"{name} has {len(part)} frames, positions {length}; record all at each frame"
                )

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.positions)


def episode_path(folder: Path, task: str, seed: int) -> Path:
    """Return the name of an episode's file, so that a set can be resumed."""
    return folder / f"{task}_{seed:08d}.npz"


def save_episode(episode: Episode, path: Path) -> None:
    """Write an episode so that ``path`` either holds all of it or does not exist.

    Fast, not compressed: for the way from a recorder to the one writer of a data set.
    """
    metadata = {
        "format": FORMAT,
        "task": episode.task,
        "seed": episode.seed,
        "instruction": episode.instruction,
        "success": episode.success,
        "period_s": episode.period_s,
        "cameras": list(episode.images),
        "pose_names": episode.pose_names,
    }
    arrays = {f"image_{camera}": images for camera, images in episode.images.items()}
    if episode.poses is not None:
        arrays["poses"] = episode.poses
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(
                file,
                metadata=np.array(json.dumps(metadata)),
                positions=episode.positions,
                commanded=episode.commanded,
                targets=episode.targets,
                **arrays,
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_episode(path: Path) -> Episode:
    """Read an episode; nothing in the file is executed.

    Raises:
        EpisodeError: if the file is missing, cut short or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return _from_arrays(file)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise EpisodeError(
            f"{path} is not a whole episode ({type(error).__name__}: {error}); delete it and "
            "collect it again"
        ) from error


def load_folder(folder: Path, task: str | None = None) -> Iterator[Episode]:
    """Yield the episodes of a folder by name, of one task if given.

    Raises:
        EpisodeError: if the folder has no episode, or one cannot be read.
    """
    paths = sorted(folder.glob(f"{task or '*'}_[0-9]*.npz"))
    if not paths:
        wanted = f"episode of {task}" if task else "episode"
        raise EpisodeError(f"no {wanted} in {folder}; make some with dfm-vla collect")
    for path in paths:
        yield load_episode(path)


def _from_arrays(file: np.lib.npyio.NpzFile) -> Episode:
    """Build the episode from the arrays of its file."""
    metadata = json.loads(str(file["metadata"]))
    if metadata["format"] != FORMAT:
        raise ValueError(f"format {metadata['format']}, this version reads {FORMAT}")
    return Episode(
        images={camera: file[f"image_{camera}"] for camera in metadata["cameras"]},
        positions=file["positions"],
        commanded=file["commanded"],
        targets=file["targets"],
        task=metadata["task"],
        seed=metadata["seed"],
        instruction=metadata["instruction"],
        success=metadata["success"],
        period_s=metadata["period_s"],
        poses=file.get("poses"),
        pose_names=tuple(metadata.get("pose_names", ())),
    )
