"""CALVIN's recordings as episodes of a data set: a file for each frame, and who asked for what.

A folder (``training/`` or ``validation/``) has ``episode_0000000.npz`` for each frame at 30 Hz,
and ``lang_annotations/auto_lang_ann.npy``. The last is a pickle: it is read by a reader that makes
arrays and plain values alone, so that a data set from anywhere runs no code.
Source: github.com/mees/calvin, ``dataset/README.md``.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks import ArrayUnpickler
from dfm_vla_ros.benchmarks.calvin import ACTION_NAMES, METRES, OPENING, POSE, unbroken
from dfm_vla_ros.data.format import DatasetSpec, Episode
from dfm_vla_ros.data.writer import DatasetWriter
from dfm_vla_ros.errors import BenchmarkError

RATE_HZ = 30
LANGUAGE = "lang_annotations/auto_lang_ann.npy"
ROBOT_TYPE = "calvin_panda"
COLUMNS = {"actions": (7,), "robot_obs": (15,)}
"""Absolute: the pose [m, rad] and the gripper commanded at a frame; the robot before that."""
IMAGES = {"static": "rgb_static", "gripper": "rgb_gripper"}


@dataclass(frozen=True)
class Annotation:
    """Frames ``first`` to ``last``, both included, and what one of the annotators says of them."""

    first: int
    last: int
    task: str
    sentence: str


def annotations(folder: Path) -> list[Annotation]:
    """Return all annotated stretches, in the file's order."""
    path = folder / LANGUAGE
    try:
        content = _read_pickle(path)
        language = content["language"]
        rows = zip(content["info"]["indx"], language["task"], language["ann"], strict=True)
        return [
            Annotation(int(first), int(last), str(task), str(sentence))
            for (first, last), task, sentence in rows
        ]
    except (OSError, ValueError, TypeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise BenchmarkError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def read_frames(folder: Path, first: int, last: int) -> dict[str, NDArray[Any]]:
    """Return ``COLUMNS`` and ``IMAGES`` of frames ``first`` to ``last``, both included.

    Returns:
        Name -> (T, ...) float64, or (T, H, W, 3) uint8 for images.
    """
    if last < first:
        raise BenchmarkError(f"frames {first} to {last} are none: give the first before the last")
    paths = [folder / f"episode_{number:07d}.npz" for number in range(first, last + 1)]
    rows = [_row(path) for path in paths]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _row(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            row = {name: np.asarray(file[name], dtype=np.float64) for name in COLUMNS}
            row |= {name: file[name] for name in IMAGES.values()}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BenchmarkError(f"{path} cannot be read: {error}; fetch it again") from error
    for name, shape in COLUMNS.items():
        if row[name].shape != shape or not np.isfinite(row[name]).all():
            raise BenchmarkError(f"{path}: {name} is {row[name].shape}, expected finite {shape}")
    for name in IMAGES.values():
        image = row[name]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise BenchmarkError(
                f"{path}: {name} is {image.dtype} {image.shape}, expected uint8 (H, W, 3)"
            )
    return row


def _read_pickle(path: Path) -> Any:
    """Return the object of an .npy file that holds one."""
    with path.open("rb") as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        _, _, dtype = read(file)
        if dtype != np.dtype(object):
            raise ValueError(f"it holds {dtype}, expected an object")
        content = ArrayUnpickler(file).load()
    return content.item() if isinstance(content, np.ndarray) else content


def read_episode(folder: Path, annotation: Annotation, number: int) -> Episode:
    """Return an annotated stretch as an episode of seven "joints": pose and opening.

    Targets are the absolute poses of the hand that were commanded, the gripper as an opening [m];
    the roll, which crosses pi, does not jump. What is commanded at a frame is due at the next.
    """
    frames = read_frames(folder, annotation.first, annotation.last)
    robot, actions = frames["robot_obs"], frames["actions"]
    positions = np.concatenate([unbroken(robot[:, POSE]), robot[:, OPENING : OPENING + 1]], axis=1)
    gripper = METRES.value(actions[:, 6:])
    given = np.concatenate([unbroken(actions[:, POSE]), gripper], axis=1)
    # Before the first frame the hand was told to stay.
    first = np.append(positions[0, :6], METRES.value(robot[0, -1:]))
    due = np.concatenate([first[None], given[:-1]])
    return Episode(
        images={camera: frames[name] for camera, name in IMAGES.items()},
        positions=positions,
        commanded=due,
        targets=due,
        task=annotation.task,
        seed=number,
        instruction=annotation.sentence,
        success=True,
        period_s=1 / RATE_HZ,
    )


def convert(
    folder: Path, out: Path, most: int | None, storage: str, say: Callable[[str], None]
) -> int:
    """Add every annotated stretch that ``out`` has not yet; return how many episodes it has.

    Args:
        folder: CALVIN's ``training/`` or ``validation/``.
        out: data set; is continued.
        most: no more than these, from the first.
        storage: ``video`` or ``image``.
        say: takes a line for each.
    """
    wanted = annotations(folder)[:most]
    if not wanted:
        return 0
    first = read_episode(folder, wanted[0], 0)
    spec = DatasetSpec.of(first, joint_names=ACTION_NAMES, robot_type=ROBOT_TYPE)
    with DatasetWriter(out, spec, storage) as writer:
        for number in range(len(writer), len(wanted)):
            episode = read_episode(folder, wanted[number], number)
            writer.add(episode, f"annotation_{number:05d}")
            say(f"{number + 1}/{len(wanted)} {episode.task}: {episode.instruction}")
        return len(writer)
