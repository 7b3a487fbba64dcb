"""Read LeRobotDataset v3.0, an episode at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dfm_vla_ros.data import tables, video
from dfm_vla_ros.data.format import (
    ACTION,
    COMMANDED,
    DATA,
    IMAGES,
    INFO,
    POSES,
    STATE,
    VIDEO,
    DatasetError,
    Episode,
    Info,
    read_info,
)
from dfm_vla_ros.data.index import EpisodeRow, read_rows


@dataclass(frozen=True)
class Dataset:
    """The committed episodes of a folder, by key.

    Sorted by key, so that two sets of the same episodes are read alike.

    Attributes:
        folder: of the data set.
        info: what ``meta/info.json`` says.
        rows: of the episodes, sorted by key.
    """

    folder: Path
    info: Info
    rows: tuple[EpisodeRow, ...]

    @classmethod
    def open(cls, folder: Path) -> Dataset:
        """Read the meta data and see that every file is there.

        Raises:
            DatasetError: it is no data set of version 3.0, a file is missing or damaged, or
                counts disagree.
        """
        folder = Path(folder)
        info = read_info(folder)
        rows = read_rows(folder, info)
        for path in sorted({path for row in rows for path in row.files()}):
            if not (folder / path).is_file():
                raise DatasetError(f"{folder / path} is missing; restore it or collect it again")
        return cls(folder, info, tuple(sorted(rows, key=lambda row: row.key)))

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.rows)

    @property
    def keys(self) -> tuple[str, ...]:
        """Unique name of each episode, sorted."""
        return tuple(row.key for row in self.rows)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, sorted."""
        return tuple(sorted({row.task for row in self.rows}))

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras."""
        return tuple(self.info.spec.cameras)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the joints."""
        return self.info.spec.joint_names

    @property
    def pose_names(self) -> tuple[str, ...]:
        """Names of the numbers that say where the objects are; may be empty."""
        return self.info.spec.pose_names

    @property
    def period_s(self) -> float:
        """Control period [s]."""
        return self.info.spec.period_s

    @cached_property
    def identity(self) -> str:
        """Name of this data set; of sets that others wrote, a hash of what they hold."""
        if self.info.identity:
            return self.info.identity
        parts = [(row.key, row.sentence, row.length) for row in self.rows]
        content = json.dumps([self.info.content, parts], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    def episode(self, i: int, images: bool | Collection[str] = True) -> Episode:
        """Return episode ``i`` in the order of :attr:`keys`.

        Args:
            i: which.
            images: of all cameras, of none, or of those named. Only they are decoded.

        Raises:
            DatasetError: there is no such episode or camera, or a file of it is damaged.
        """
        if not 0 <= i < len(self):
            raise DatasetError(f"episode {i} of {self.folder}: give 0..{len(self) - 1}")
        row = self.rows[i]
        path = self.folder / row.data.path(DATA)
        cameras = self._cameras(images)
        names = self._columns(cameras)
        table = tables.read_table(path, names, row.number)
        if len(table) != row.length:
            raise DatasetError(
                f"{path} has {len(table)} frames of episode {row.key}, meta/episodes says "
                f"{row.length}; restore it"
            )
        numbers = {n: tables.numbers(table, n, path) for n in names if not n.startswith(IMAGES)}
        commanded, targets = self._commands(numbers)
        return Episode(
            images=self._images(row, cameras, table, path),
            positions=numbers[STATE],
            commanded=commanded,
            targets=targets,
            task=row.task,
            seed=row.seed,
            instruction=row.sentence,
            success=row.success,
            style=row.style,
            period_s=self.period_s,
            poses=numbers.get(POSES),
            pose_names=self.pose_names,
        )

    def _cameras(self, images: bool | Collection[str]) -> list[str]:
        """Return the features of the wanted cameras."""
        wanted = self.cameras if images is True else images or ()
        for camera in wanted:
            if camera not in self.cameras:
                raise DatasetError(
                    f"{self.folder} has no camera {camera}, only {', '.join(self.cameras)}"
                )
        return [IMAGES + camera for camera in self.cameras if camera in wanted]

    def _columns(self, cameras: list[str]) -> list[str]:
        names = [STATE, ACTION, *([COMMANDED] if COMMANDED in self.info.features else [])]
        names += [POSES] if self.pose_names else []
        return names + cameras if self.info.storage == "image" else names

    @staticmethod
    def _commands(numbers: dict[str, NDArray]) -> tuple[NDArray, NDArray]:
        """Return commanded and targets: an action is the target due one period later."""
        action = numbers[ACTION]
        first = numbers.get(COMMANDED, numbers[STATE])[:1]
        targets = np.concatenate([first, action[:-1]])
        return numbers.get(COMMANDED, targets), targets

    def _images(
        self, row: EpisodeRow, cameras: list[str], table: pa.Table, path: Path
    ) -> dict[str, NDArray[np.uint8]]:
        found = {}
        for name in cameras:
            camera = name.removeprefix(IMAGES)
            if self.info.storage == "image":
                found[camera] = tables.pictures(table, name, path)
            else:
                place = row.videos[name]
                file = self.folder / place.path(VIDEO, video_key=name)
                fps = self.info.spec.fps
                found[camera] = video.decode(file, place.start, place.length, fps)
        return found

    def episodes(
        self,
        task: str | None = None,
        limit: int = 0,
        images: bool | Collection[str] = True,
    ) -> Iterator[Episode]:
        """Yield the episodes by key, of one task if given, at most ``limit`` (0: all).

        One at a time is in memory, whatever the size of the files.

        Raises:
            DatasetError: there is none, or one cannot be read.
        """
        chosen = [i for i, row in enumerate(self.rows) if task in (None, row.task)]
        if not chosen:
            wanted = f"episode of {task}" if task else "episode"
            raise DatasetError(f"no {wanted} in {self.folder}; make some with dfm-vla collect")
        for i in chosen[: limit or None]:
            yield self.episode(i, images)


def open_datasets(folders: Sequence[Path]) -> list[Dataset]:
    """Open each folder: a data set, or one that holds data sets.

    Raises:
        DatasetError: a folder is neither, or a data set cannot be read.
    """
    found = []
    for folder in map(Path, folders):
        paths = [folder / INFO] if (folder / INFO).exists() else sorted(folder.glob(f"*/{INFO}"))
        if not paths:
            raise DatasetError(f"no data set in {folder}; make one with dfm-vla collect")
        found += [Dataset.open(path.parent.parent) for path in paths]
    return found
