"""Write LeRobotDataset v3.0, one whole episode after another."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from dfm_vla_ros.data import index, tables, video
from dfm_vla_ros.data.format import (
    DATA,
    IMAGES,
    INFO,
    STORAGES,
    TASKS,
    VIDEO,
    DatasetError,
    DatasetSpec,
    Episode,
    new_info,
    parse_info,
    read_info,
)
from dfm_vla_ros.data.index import (
    ROWS_PER_FILE,
    EpisodeRow,
    Place,
    Statistics,
    episodes_file,
    read_rows,
    row_table,
)
from dfm_vla_ros.data.recovery import (
    check_empty,
    check_episode,
    check_same,
    committed,
    counted_frames,
    lock,
    recover,
    write_statistics,
)
from dfm_vla_ros.files import remove_partials, write_bytes, write_json

FILE_MB = 4
"""A file is rewritten to add an episode: larger files are fewer, but slower to add to."""
MEGABYTE = 2**20
GROWTH = 1.5
"""``meta/stats.json`` is renewed when the frames have grown by this factor, and at the end."""


class DatasetWriter:
    """Adds episodes to a data set; a context manager.

    ``meta/info.json`` is the commit record: it is replaced last, after all else is on the disk.
    So :meth:`add` adds a durable episode or none, wherever the process is killed, and the next
    writer removes what was left half done.
    """

    def __init__(self, folder: Path, spec: DatasetSpec, storage: str = "video") -> None:
        """Begin a data set, or continue the one in ``folder``.

        Args:
            folder: of the data set; is made if there is none.
            spec: of all episodes.
            storage: "video" (H.264 without loss) or "image" (PNG within parquet).

        Raises:
            DatasetError: another writer is at work, or the data set is of another kind.
        """
        if storage not in STORAGES:
            raise DatasetError(f"storage is {storage!r}, give one of {', '.join(STORAGES)}")
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock(self.folder)
        try:
            self._open(spec, storage)
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self, spec: DatasetSpec, storage: str) -> None:
        remove_partials(self.folder)
        if not (self.folder / INFO).exists():
            check_empty(self.folder)
            content = new_info(spec, storage, uuid.uuid4().hex, FILE_MB)
            write_json(self.folder / INFO, content)
        self._info = read_info(self.folder)
        check_same(self._info, spec, storage, self.folder)
        self._rows = read_rows(self.folder, self._info)
        self._keys = {row.key for row in self._rows}
        self._sentences = self._read_sentences()
        self._counted_frames = counted_frames(self.folder)
        recover(self.folder, self._rows)

    def _read_sentences(self) -> list[str]:
        if not self._info.tasks:
            return []
        table = tables.read_table(self.folder / TASKS).slice(0, self._info.tasks)
        return table.column("task").to_pylist()

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self._rows)

    def __contains__(self, key: str) -> bool:
        """Return whether there is an episode ``key``."""
        return key in self._keys

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Write the exact statistics and let other writers in."""
        if self._lock < 0:
            return
        try:
            self._write_statistics()
        finally:
            os.close(self._lock)
            self._lock = -1

    def add(self, episode: Episode, key: str) -> None:
        """Add an episode, whole and on the disk when this returns.

        ``episode.targets[0]`` is no label of any frame; it is read back as ``commanded[0]``.

        Raises:
            DatasetError: the episode does not fit, or there is one with this key; nothing is
                changed then.
        """
        if self._lock < 0:
            raise DatasetError(f"the writer of {self.folder} is closed; open another")
        if key in self._keys:
            raise DatasetError(f"{self.folder} has an episode {key} already; choose another key")
        check_episode(episode, self._info, key)
        sentences = self._with_sentence(episode.instruction)
        row = self._write_episode(episode, key, sentences.index(episode.instruction))
        self._write_row(row)
        self._commit(row, sentences)
        if self._info.frames >= GROWTH * self._counted_frames:
            self._write_statistics()

    def _with_sentence(self, sentence: str) -> list[str]:
        """Return the sentences and this one, after it is in ``meta/tasks.parquet``."""
        if sentence in self._sentences:
            return self._sentences
        sentences = [*self._sentences, sentence]
        table = tables.task_table(sentences)
        tables.write_table(self.folder / TASKS, table)
        return sentences

    def _commit(self, row: EpisodeRow, sentences: list[str]) -> None:
        content = self._info.content | {
            "total_episodes": row.number + 1,
            "total_frames": row.first + row.length,
            "total_tasks": len(sentences),
            "splits": {"train": f"0:{row.number + 1}"},
        }
        write_json(self.folder / INFO, content)
        self._info = parse_info(content, self.folder / INFO)
        self._rows.append(row)
        self._keys.add(row.key)
        self._sentences = sentences

    def _write_episode(self, episode: Episode, key: str, task: int) -> EpisodeRow:
        number, first = self._info.episodes, self._info.frames
        numbers = tables.columns(episode, number, first, task)
        found: dict[str, Statistics] = {}
        for name, feature in self._info.features.items():
            if feature.is_camera:
                found[name] = index.of_images(episode.images[name.removeprefix(IMAGES)])
            else:
                found[name] = index.of_numbers(numbers[name].reshape(len(episode), -1))
        videos = {}
        if self._info.storage == "video":
            for camera, images in episode.images.items():
                videos[IMAGES + camera] = self._write_video(IMAGES + camera, images)
        table = tables.frame_table(numbers, episode.images, self._info.features)
        return EpisodeRow(
            number,
            key,
            episode.task,
            episode.instruction,
            episode.seed,
            episode.success,
            first,
            self._write_data(table),
            videos,
            found,
            episode.style,
        )

    def _write_video(self, name: str, images: np.ndarray) -> Place:
        """Add images to the last video of a camera, or begin a new one."""
        fps, limit = self._info.spec.fps, self._info.content["video_files_size_in_mb"]
        file, start, content = 0, 0, video.encode(images, fps)
        if self._rows:
            last = self._rows[-1].videos[name]
            file, start = last.file, last.start + last.length
            path = self.folder / last.path(VIDEO, video_key=name)
            fits = _size(path) + len(content) <= limit * MEGABYTE
            joined = video.join(path, start, content, fps) if fits else None
            if joined is None:
                file, start = last.file + 1, 0
            else:
                content = joined
        place = Place(file, start, len(images))
        path = self.folder / place.path(VIDEO, video_key=name)
        write_bytes(path, content)
        return place

    def _write_data(self, table: pa.Table) -> Place:
        """Add rows to the last parquet file, or begin a new one."""
        limit = self._info.content["data_files_size_in_mb"] * MEGABYTE
        lengths, file = [], 0
        if self._rows:
            file = self._rows[-1].data.file
            lengths = [row.length for row in self._rows if row.data.file == file]
            path = self.folder / Place(file, 0, 0).path(DATA)
            size = _size(path)
            if size + size / sum(lengths) * len(table) > limit:
                lengths, file = [], file + 1
        place = Place(file, sum(lengths), len(table))
        path = self.folder / place.path(DATA)
        rows = table
        if lengths:
            rows = pa.concat_tables([committed(path, sum(lengths)), table])
        tables.write_table(path, rows, [*lengths, len(table)])
        return place

    def _write_row(self, row: EpisodeRow) -> None:
        """Add a row to the last file of ``meta/episodes``, or begin a new one."""
        path = self.folder / episodes_file(row.number)
        table = row_table(row, self._info.spec.fps)
        if row.number % ROWS_PER_FILE:
            kept = committed(path, row.number % ROWS_PER_FILE)
            # An older file may lack a column.
            table = pa.concat_tables([kept, table], promote_options="default")
        tables.write_table(path, table)

    def _write_statistics(self) -> None:
        """Renew ``meta/stats.json`` if there are other episodes than it counts."""
        if self._rows and self._counted_frames != self._info.frames:
            write_statistics(self.folder, self._info, self._rows)
            self._counted_frames = self._info.frames


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing; restore it") from error
