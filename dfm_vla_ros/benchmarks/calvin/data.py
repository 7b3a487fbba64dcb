"""CALVIN's recordings: a file for each frame, and who asked for what in which of them.

A folder (``training/`` or ``validation/``) has ``episode_0000000.npz``, ``ep_start_end_ids.npy``
and ``lang_annotations/auto_lang_ann.npy``. The last is a pickle: it is read by a reader that makes
arrays and plain values alone, so that a data set from anywhere runs no code.
Source: github.com/mees/calvin, ``dataset/README.md``.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks.calvin.protocol import ACTION_NAMES, METRES, OPENING, POSE, unbroken
from dfm_vla_ros.benchmarks.calvin.protocol import Array as Array_from_protocol
from dfm_vla_ros.data.format import DatasetSpec, Episode
from dfm_vla_ros.data.writer import DatasetWriter
from dfm_vla_ros.errors import CalvinError

Array = NDArray[np.float64]
RATE_HZ = 30
BOUNDS = "ep_start_end_ids.npy"
LANGUAGE = "lang_annotations/auto_lang_ann.npy"
COLUMNS = {"actions": (7,), "rel_actions": (7,), "robot_obs": (15,), "scene_obs": (24,)}
IMAGES = {"static": "rgb_static", "gripper": "rgb_gripper"}
ALLOWED = {
    (module, name)
    for module, names in {
        "numpy": ("ndarray", "dtype"),
        "numpy.core.multiarray": ("_reconstruct", "scalar"),
        "numpy._core.multiarray": ("_reconstruct", "scalar"),
    }.items()
    for name in names
}


@dataclass(frozen=True)
class Annotation:
    """A stretch of frames with the sentence that says what is done in it.

    Attributes:
        first, last: numbers of the frames, both included.
        task: its name.
        sentence: of one of several annotators.
    """

    first: int
    last: int
    task: str
    sentence: str


@dataclass(frozen=True, eq=False)
class Frames:
    """T frames in a row at 30 Hz.

    Attributes:
        images: ``static`` and ``gripper`` -> (T, H, W, 3) uint8 RGB.
        actions: (T, 7) absolute: the pose [m, rad] and the gripper commanded at each frame.
        relative: (T, 7) the same, relative to ``robot``'s pose, within -1..1.
        robot: (T, 15) ``robot_obs`` before the action.
        scene: (T, 24) ``scene_obs``.
    """

    images: dict[str, NDArray[np.uint8]]
    actions: Array
    relative: Array
    robot: Array
    scene: Array


def recordings(folder: Path) -> list[tuple[int, int]]:
    """Return first and last frame of each uncut recording, both included.

    Raises:
        CalvinError: the folder has no list of them.
    """
    path = folder / BOUNDS
    try:
        bounds = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CalvinError(f"{path} cannot be read: {error}; give CALVIN's training/") from error
    if bounds.ndim != 2 or bounds.shape[1] != 2:
        raise CalvinError(f"{path} is {bounds.shape}, expected (N, 2): first and last frames")
    return [(int(first), int(last)) for first, last in bounds]


def annotations(folder: Path) -> list[Annotation]:
    """Return all annotated stretches, in the file's order.

    Raises:
        CalvinError: there are none, or the file holds something else than arrays and texts.
    """
    path = folder / LANGUAGE
    try:
        content = _read_pickle(path)
        rows = zip(
            content["info"]["indx"],
            content["language"]["task"],
            content["language"]["ann"],
            strict=True,
        )
        return [
            Annotation(int(first), int(last), str(task), str(sentence))
            for (first, last), task, sentence in rows
        ]
    except (OSError, ValueError, TypeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise CalvinError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def frames(folder: Path, first: int, last: int) -> Frames:
    """Read frames ``first`` to ``last``, both included.

    Raises:
        CalvinError: one is missing or damaged.
    """
    rows = list(_rows(folder, first, last))
    columns = {name: np.stack([row[name] for row in rows]) for name in COLUMNS}
    images = {camera: np.stack([row[name] for row in rows]) for camera, name in IMAGES.items()}
    return Frames(
        images,
        columns["actions"],
        columns["rel_actions"],
        columns["robot_obs"],
        columns["scene_obs"],
    )


def _rows(folder: Path, first: int, last: int) -> Iterator[dict[str, NDArray[Any]]]:
    if last < first:
        raise CalvinError(f"frames {first} to {last} are none: give the first before the last")
    for number in range(first, last + 1):
        path = folder / f"episode_{number:07d}.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                row: dict[str, NDArray[Any]] = {
                    name: np.asarray(file[name], dtype=np.float64) for name in COLUMNS
                }
                row |= {name: file[name] for name in IMAGES.values()}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise CalvinError(f"{path} cannot be read: {error}; fetch the file again") from error
        _check(row, path)
        yield row


def _check(row: dict[str, NDArray[Any]], path: Path) -> None:
    for name, shape in COLUMNS.items():
        if row[name].shape != shape or not np.isfinite(row[name]).all():
            raise CalvinError(f"{path}: {name} is {row[name].shape}, expected finite {shape}")
    for name in IMAGES.values():
        if row[name].dtype != np.uint8 or row[name].ndim != 3 or row[name].shape[2] != 3:
            raise CalvinError(
                f"{path}: {name} is {row[name].dtype} {row[name].shape}, expected uint8 (H, W, 3)"
            )


class _PlainUnpickler(pickle.Unpickler):
    """Makes arrays, dictionaries, lists, numbers and texts, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return numpy's own makers of arrays."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no annotation needs")
        return super().find_class(module, name)


def _read_pickle(path: Path) -> Any:
    """Return the object of an .npy file that holds one."""
    with path.open("rb") as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        _, _, dtype = read(file)
        if dtype != np.dtype(object):
            raise ValueError(f"it holds {dtype}, expected an object")
        content = _PlainUnpickler(file).load()
    return content.item() if isinstance(content, np.ndarray) else content


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


def _due(
    start: Array_from_protocol, given: Array_from_protocol, gripper: Array_from_protocol
) -> Array_from_protocol:
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
