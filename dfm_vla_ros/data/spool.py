"""Whole episodes on their way from parallel recorders to the one writer of a data set."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from dfm_vla_ros.data.format import Episode, EpisodeError

FORMAT = 1


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
        "style": episode.style,
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
        style=metadata.get("style", ""),
        period_s=metadata["period_s"],
        poses=file.get("poses"),
        pose_names=tuple(metadata.get("pose_names", ())),
    )
