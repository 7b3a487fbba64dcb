"""CALVIN's recordings into a LeRobot data set, for the training loaders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dfm_vla_ros.benchmarks.calvin.actions import (
    ACTION_NAMES,
    METRES,
    OPENING,
    POSE,
    Array,
    unbroken,
)
from dfm_vla_ros.benchmarks.calvin.data import RATE_HZ, Annotation, Frames, annotations, frames
from dfm_vla_ros.data.episodes import Episode
from dfm_vla_ros.data.format import DatasetSpec
from dfm_vla_ros.data.writer import DatasetWriter

ROBOT_TYPE = "calvin_panda"


def to_episode(content: Frames, annotation: Annotation, number: int) -> Episode:
    """Return an annotated stretch as an episode of seven "joints": pose and opening.

    Targets are the absolute poses of the hand that were commanded, the gripper as an opening [m];
    the roll, which crosses pi, does not jump. What is commanded at a frame is due at the next.
    """
    positions = np.concatenate(
        [unbroken(content.robot[:, POSE]), content.robot[:, OPENING : OPENING + 1]], axis=1
    )
    given = np.concatenate(
        [unbroken(content.actions[:, POSE]), METRES.value(content.actions[:, 6:])], axis=1
    )
    due = _due(positions[0], given, content.robot[0, -1:])
    return Episode(
        images=content.images,
        positions=positions,
        commanded=due,
        targets=due,
        task=annotation.task,
        seed=number,
        instruction=annotation.sentence,
        success=True,
        period_s=1 / RATE_HZ,
    )


def _due(start: Array, given: Array, gripper: Array) -> Array:
    """Return what was commanded before each frame; before the first, to stay."""
    first = np.append(start[:6], METRES.value(gripper))
    return np.concatenate([first[None], given[:-1]])


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

    Raises:
        CalvinError, DatasetError: a file cannot be read, or is of another kind.
    """
    wanted = annotations(folder)[:most]
    if not wanted:
        return 0
    first = _read(folder, wanted[0], 0)
    spec = DatasetSpec.of(first, joint_names=ACTION_NAMES, robot_type=ROBOT_TYPE)
    with DatasetWriter(out, spec, storage) as writer:
        for number in range(len(writer), len(wanted)):
            writer.add(_read(folder, wanted[number], number), f"annotation_{number:05d}")
            say(f"{number + 1}/{len(wanted)} {wanted[number].task}: {wanted[number].sentence}")
        return len(writer)


def _read(folder: Path, annotation: Annotation, number: int) -> Episode:
    return to_episode(frames(folder, annotation.first, annotation.last), annotation, number)
