"""LIBERO's demonstrations (HDF5) as episodes of a data set.

An action is a step already, so its tokens must be relative to nothing: ``commanded`` is 0
throughout, as ``dfm-vla libero eval`` sends it, and the targets are the actions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks.libero import ACTION_NAMES, CAMERAS, JOINT_NAMES, opening, turned
from dfm_vla_ros.benchmarks.libero.suites import instruction_of
from dfm_vla_ros.data.format import DatasetSpec, Episode
from dfm_vla_ros.data.writer import DatasetWriter
from dfm_vla_ros.errors import BenchmarkError

Arrays = Mapping[str, NDArray[Any]]
PERIOD_S = 0.05
ROBOT = "libero_panda"
SUFFIX = "_demo"
AFTER = "after"
WIDTHS = {"actions": len(ACTION_NAMES), "ee_pos": 3, "ee_ori": 3, "gripper_states": 2}


def as_episode(
    arrays: Arrays, task: str, number: int, seen: str = AFTER, turn: bool = True
) -> Episode:
    """Return a demonstration of T actions as an episode of T + 1 frames.

    LIBERO's own files were written by stepping first and looking then: frame t shows the world
    after action t, so the action to be learnt at it is number t + 1. Files made anew by others
    look first (``seen="before"``). The frame that is added repeats the last one; there nothing is
    left to do but stand still (or, seen before, the last action).

    Args:
        arrays: ``actions`` (T, 7), ``ee_pos``, ``ee_ori`` (T, 3), ``gripper_states`` (T, 2) and
            ``agentview_rgb``, ``eye_in_hand_rgb`` (T, H, W, 3).
        task: name.
        number: of the demonstration.
        seen: ``after`` or ``before``.
        turn: whether images are turned by 180 degrees, as the evaluations do.
    """
    _check(arrays)
    actions = np.asarray(arrays["actions"], dtype=np.float64)
    pose = np.concatenate([arrays["ee_pos"], arrays["ee_ori"]], axis=1)
    positions = np.column_stack([pose, opening(np.asarray(arrays["gripper_states"]))])
    still = actions[-1:] if seen == AFTER else actions[:1]
    still = np.concatenate([np.zeros((1, len(ACTION_NAMES) - 1)), still[:, -1:]], axis=1)
    images = {name: _with_last(np.asarray(arrays[f"{name}_rgb"])) for name in CAMERAS}
    return Episode(
        {name: turned(views) if turn else views for name, views in images.items()},
        _with_last(positions.astype(np.float64)),
        np.zeros((len(actions) + 1, len(ACTION_NAMES))),
        np.concatenate([actions, still] if seen == AFTER else [still, actions]),
        task,
        number,
        instruction_of(task),
        True,
        PERIOD_S,
    )


def read_demonstrations(path: Path) -> Iterator[tuple[int, Arrays]]:
    """Yield number and arrays of every demonstration in a file, in order of their numbers."""
    import h5py

    try:
        with h5py.File(path) as file:
            found = {int(name.rpartition("_")[2]): group for name, group in file["data"].items()}
            for number in sorted(found):
                seen = found[number]["obs"]
                names = ("ee_pos", "ee_ori", "gripper_states", *(f"{one}_rgb" for one in CAMERAS))
                arrays = {name: seen[name][()] for name in names}
                yield number, {"actions": found[number]["actions"][()], **arrays}
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise BenchmarkError(f"{path} is no file of LIBERO's demonstrations: {error}") from error


def convert(
    files: Sequence[Path],
    out: Path,
    storage: str = "video",
    seen: str = AFTER,
    turn: bool = True,
) -> tuple[int, int]:
    """Add the demonstrations of ``files`` to the data set ``out``.

    Returns:
        How many were added, and how many were there.
    """
    added, known, writer = 0, 0, None
    with ExitStack() as stack:
        for path in files:
            for number, arrays in read_demonstrations(path):
                task, key = task_of(path), f"{path.stem}/{number}"
                episode = as_episode(arrays, task, number, seen, turn)
                if writer is None:
                    spec = DatasetSpec.of(episode, joint_names=JOINT_NAMES, robot_type=ROBOT)
                    writer = stack.enter_context(DatasetWriter(out, spec, storage))
                if key in writer:
                    known += 1
                else:
                    writer.add(episode, key)
                    added += 1
    return added, known


def task_of(path: Path) -> str:
    """Return the task whose demonstrations a file holds, from its name."""
    if not path.stem.endswith(SUFFIX):
        raise BenchmarkError(f"{path.name} is not named TASK{SUFFIX}.hdf5: its task is not known")
    return path.stem.removesuffix(SUFFIX)


def _check(arrays: Arrays) -> None:
    """Raise BenchmarkError unless all parts are there and fit together."""
    names = [f"{name}_rgb" for name in CAMERAS]
    missing = [name for name in (*WIDTHS, *names) if name not in arrays]
    if missing:
        raise BenchmarkError(f"the demonstration has no {missing[0]}; it needs {list(WIDTHS)}")
    count = len(arrays["actions"])
    for name, width in WIDTHS.items():
        if np.shape(arrays[name]) != (count, width) or not count:
            raise BenchmarkError(
                f"{name} is {np.shape(arrays[name])}, expected ({count or 'T'}, {width}): the "
                "demonstration is damaged"
            )
    for name in names:
        shape, kind = np.shape(arrays[name]), np.asarray(arrays[name]).dtype
        if len(shape) != 4 or shape[0] != count or shape[3] != 3 or kind != np.uint8:
            raise BenchmarkError(f"{name} is {shape} {kind}, expected ({count}, H, W, 3) uint8")


def _with_last(rows: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([rows, rows[-1:]])
