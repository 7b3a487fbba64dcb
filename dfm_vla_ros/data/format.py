"""An episode, and LeRobotDataset v3.0: names of files and columns, what ``meta/info.json`` says.

Source: https://github.com/huggingface/lerobot, ``lerobot/datasets``. `save_episode` is no part of
that format: it takes whole episodes from parallel recorders to the one writer of a data set.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.files import replacing
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.schema import parse, read_json


class EpisodeError(DfmVlaError):
    """An episode whose parts do not fit together, or a spooled file that cannot be read."""


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
        style: how it was done, where there are several ways, such as ``arm=far pace=1.5``.
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
    style: str = ""

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


SPOOL_FORMAT = 1
TEXTS = ("task", "seed", "instruction", "success", "style", "period_s", "pose_names")
NUMBERS = ("positions", "commanded", "targets", "poses")


def save_episode(episode: Episode, path: Path) -> None:
    """Write an episode, not compressed; ``path`` holds all of it or does not exist."""
    texts = {name: getattr(episode, name) for name in TEXTS}
    metadata = {"format": SPOOL_FORMAT, "cameras": list(episode.images), **texts}
    numbers = {name: getattr(episode, name) for name in NUMBERS}
    arrays = {name: values for name, values in numbers.items() if values is not None}
    images = {f"image_{camera}": images for camera, images in episode.images.items()}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, metadata=np.array(json.dumps(metadata)), **arrays, **images)


def load_episode(path: Path) -> Episode:
    """Read what `save_episode` wrote; nothing in the file is executed.

    Raises:
        EpisodeError: the file is missing, cut short or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            metadata = json.loads(str(file["metadata"]))
            if metadata["format"] != SPOOL_FORMAT:
                raise ValueError(f"format {metadata['format']}, this version reads {SPOOL_FORMAT}")
            return Episode(
                images={camera: file[f"image_{camera}"] for camera in metadata["cameras"]},
                **{name: file.get(name) for name in NUMBERS},
                **{name: metadata[name] for name in TEXTS if name != "pose_names"},
                pose_names=tuple(metadata["pose_names"]),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise EpisodeError(
            f"{path} is not a whole episode ({type(error).__name__}: {error}); delete it and "
            "collect it again"
        ) from error


VERSION = "v3.0"
INFO = Path("meta/info.json")
STATS = Path("meta/stats.json")
TASKS = Path("meta/tasks.parquet")
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
FILES_PER_CHUNK = 1000

IMAGES = "observation.images."
STATE = "observation.state"
COMMANDED = "observation.commanded"
POSES = "observation.environment_state"
ACTION = "action"
STORAGES = ("video", "image")
INDICES = ("frame_index", "episode_index", "index", "task_index")


class DatasetError(DfmVlaError):
    """A data set that cannot be read or written, or an episode that does not belong into it."""


@dataclass(frozen=True)
class DatasetSpec:
    """What all episodes of a data set have in common.

    Attributes:
        cameras: camera -> (height, width) [px].
        period_s: control period [s]; its inverse is a whole number.
        joint_names: of the D joints.
        pose_names: of the P numbers that say where the objects are; may be empty.
        robot_type: name of the robot.
    """

    cameras: dict[str, tuple[int, int]]
    period_s: float
    joint_names: tuple[str, ...] = JOINT_NAMES
    pose_names: tuple[str, ...] = ()
    robot_type: str = "dfm_vla_dual_arm"

    def __post_init__(self) -> None:
        """Check the control period."""
        rate = 1 / self.period_s if self.period_s > 0 else 0.0
        if round(rate) < 1 or abs(rate - round(rate)) > 1e-6:
            raise DatasetError(
                f"control period {self.period_s} s is {rate:g} Hz; LeRobot data sets have a whole "
                "number of frames per second: resample to one"
            )

    @property
    def fps(self) -> int:
        """Frames per second."""
        return round(1 / self.period_s)

    @classmethod
    def of(cls, episode: Episode, **others: Any) -> DatasetSpec:
        """Return the specification that ``episode`` has; ``others`` are further fields."""
        cameras = {name: images.shape[1:3] for name, images in episode.images.items()}
        return cls(cameras, episode.period_s, pose_names=episode.pose_names, **others)


class Feature(BaseModel):
    """A column or a camera, as ``meta/info.json`` has it."""

    dtype: str
    shape: tuple[int, ...] = Field(min_length=1)
    names: list | dict[str, list] | None = None

    @property
    def is_camera(self) -> bool:
        """Whether it holds images."""
        return self.dtype in STORAGES

    def columns(self) -> tuple[str, ...]:
        """Return the names of a vector's numbers; older data sets have them by group, or none."""
        names = self.names
        if isinstance(names, dict):
            names = [name for group in names.values() for name in group]
        return tuple(str(name) for name in names or range(self.shape[0]))


class InfoFile(BaseModel):
    """What must be in ``meta/info.json``; other programs write more."""

    codebase_version: str
    robot_type: str | None = None
    fps: int = Field(gt=0)
    total_episodes: int = Field(ge=0)
    total_frames: int = Field(ge=0)
    total_tasks: int = Field(ge=0)
    features: dict[str, Feature]
    identity: str = ""


@dataclass(frozen=True)
class Info:
    """``meta/info.json``: the record of what is committed.

    Attributes:
        spec: of all episodes.
        storage: "video" or "image"; "" without cameras.
        episodes: how many are committed.
        frames: how many they have.
        tasks: distinct sentences.
        identity: unique name of this data set; "" where another program wrote it.
        features: columns and cameras by name.
        content: the file itself.
    """

    spec: DatasetSpec
    storage: str
    episodes: int
    frames: int
    tasks: int
    identity: str
    features: dict[str, Feature]
    content: dict[str, Any] = field(repr=False)


def features(spec: DatasetSpec, storage: str) -> dict[str, dict[str, Any]]:
    """Return the ``features`` of ``meta/info.json``."""
    found = {
        IMAGES + name: _camera(size, storage, spec.fps) for name, size in spec.cameras.items()
    }
    for name in (STATE, COMMANDED, ACTION):
        found[name] = _vector(spec.joint_names)
    if spec.pose_names:
        found[POSES] = _vector(spec.pose_names)
    found["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    found |= {name: {"dtype": "int64", "shape": [1], "names": None} for name in INDICES}
    return found


def _vector(names: tuple[str, ...]) -> dict[str, Any]:
    return {"dtype": "float64", "shape": [len(names)], "names": list(names)}


def _camera(size: tuple[int, int], storage: str, fps: int) -> dict[str, Any]:
    feature: dict[str, Any] = {
        "dtype": storage,
        "shape": [*size, 3],
        "names": ["height", "width", "channels"],
    }
    if storage == "video":
        feature["info"] = {
            "video.height": size[0],
            "video.width": size[1],
            "video.codec": "h264",
            "video.pix_fmt": "gbrp",
            "video.fps": fps,
            "video.channels": 3,
            "has_audio": False,
            "is_depth_map": False,
        }
    return feature


def new_info(spec: DatasetSpec, storage: str, identity: str, file_mb: int) -> dict[str, Any]:
    """Return ``meta/info.json`` of a data set without episodes.

    Args:
        spec: of all episodes.
        storage: "video" or "image".
        identity: unique name.
        file_mb: largest size of a parquet file and of a video [MB].
    """
    return {
        "codebase_version": VERSION,
        "robot_type": spec.robot_type,
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": 0,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": file_mb,
        "video_files_size_in_mb": file_mb,
        "fps": spec.fps,
        "splits": {},
        "data_path": DATA,
        "video_path": VIDEO if storage == "video" and spec.cameras else None,
        "features": features(spec, storage),
        "identity": identity,
    }


def read_info(folder: Path) -> Info:
    """Return what ``meta/info.json`` of a data set says; raises DatasetError."""
    path = folder / INFO
    if not path.exists():
        raise DatasetError(
            f"{path} is missing: {folder} is no data set; make one with dfm-vla collect"
        )
    return parse_info(read_json(path, DatasetError), path)


def parse_info(content: Any, path: Path) -> Info:
    """Return the parts of ``content``, that of ``path``; raises DatasetError."""
    version = content.get("codebase_version") if isinstance(content, dict) else None
    if version != VERSION:
        raise DatasetError(
            f"{path} is of version {version}, this reads {VERSION}; convert it with lerobot"
        )
    file = parse(InfoFile, content, str(path), DatasetError)
    cameras = {k: v for k, v in file.features.items() if v.is_camera}
    storages = {v.dtype for v in cameras.values()} or {""}
    if len(storages) > 1 or STATE not in file.features:
        raise DatasetError(f"{path}: give one dtype for all cameras, and {STATE}")
    poses = file.features.get(POSES)
    spec = DatasetSpec(
        cameras={k.removeprefix(IMAGES): v.shape[:2] for k, v in cameras.items()},
        period_s=1 / file.fps,
        joint_names=file.features[STATE].columns(),
        pose_names=poses.columns() if poses else (),
        robot_type=file.robot_type or "",
    )
    counts = (file.total_episodes, file.total_frames, file.total_tasks)
    return Info(spec, storages.pop(), *counts, file.identity, file.features, content)
