"""Whether an episode, or another writer, fits a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dfm_vla_ros.data.episodes import Episode
from dfm_vla_ros.data.format import DatasetError, DatasetSpec, Info


def check_same(info: Info, spec: DatasetSpec, storage: str, folder: Path) -> None:
    """Check that ``folder`` can be continued with episodes of ``spec``.

    Raises:
        DatasetError: it has other cameras, joints, poses, another rate or storage.
    """
    if not info.identity:
        raise DatasetError(f"{folder} was written by another program; write to another folder")
    there = info.spec
    pairs = {
        "cameras": (there.cameras, spec.cameras),
        "frames per second": (there.fps, spec.fps),
        "joints": (there.joint_names, spec.joint_names),
        "poses": (there.pose_names, spec.pose_names),
        "storage": (info.storage, storage if spec.cameras else ""),
    }
    for name, (has, wanted) in pairs.items():
        if has != wanted:
            raise DatasetError(f"{folder} has {name} {has}, not {wanted}; write to another folder")


def check_episode(episode: Episode, info: Info, key: str) -> None:
    """Check that an episode fits the data set.

    Raises:
        DatasetError: it has no frame, another rate, other cameras, sizes, joints or poses, or a
            number that is not finite.
    """
    spec = info.spec
    if len(episode) == 0:
        raise DatasetError(f"episode {key} has no frame; give at least 1")
    if abs(episode.period_s * spec.fps - 1) > 1e-6:
        raise DatasetError(
            f"episode {key} has a control period of {episode.period_s} s, the data set "
            f"{spec.period_s} s ({spec.fps} Hz); resample it"
        )
    _check_images(episode, spec, key)
    _check_numbers(episode, spec, key)
    if not episode.instruction:
        raise DatasetError(f"episode {key} has no instruction; give a sentence")


def _check_images(episode: Episode, spec: DatasetSpec, key: str) -> None:
    if set(episode.images) != set(spec.cameras):
        raise DatasetError(
            f"episode {key} has cameras {sorted(episode.images)}, the data set "
            f"{sorted(spec.cameras)}; record the same"
        )
    for camera, images in episode.images.items():
        size = (*spec.cameras[camera], 3)
        if images.shape[1:] != size or images.dtype != np.uint8:
            raise DatasetError(
                f"episode {key}: {camera} has images {images.shape[1:]} of {images.dtype}, the "
                f"data set {size} of uint8; record the same size"
            )


def _check_numbers(episode: Episode, spec: DatasetSpec, key: str) -> None:
    if episode.pose_names != spec.pose_names:
        raise DatasetError(
            f"episode {key} has poses {episode.pose_names}, the data set {spec.pose_names}; "
            "record the same"
        )
    shape = (len(episode), len(spec.joint_names))
    for name in ("positions", "commanded", "targets"):
        values = getattr(episode, name)
        if values.shape != shape:
            raise DatasetError(
                f"episode {key}: {name} is {values.shape}, expected {shape}, the data set's joints"
            )
        _check_finite(values, name, spec.joint_names, key)
    if episode.poses is not None:
        _check_finite(episode.poses, "poses", spec.pose_names, key)


def _check_finite(values: np.ndarray, name: str, columns: tuple[str, ...], key: str) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        frame, column = bad[0]
        raise DatasetError(
            f"episode {key}: {name} of {columns[column]} is {values[frame, column]} at frame "
            f"{frame}; give finite numbers"
        )
