"""Put a data set right after a writer was killed: leave what is committed, and nothing else."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from dfm_vla_ros.data import tables
from dfm_vla_ros.data.format import (
    ACTION,
    DATA,
    STATS,
    DatasetError,
    DatasetSpec,
    Episode,
    Info,
)
from dfm_vla_ros.data.index import (
    ROWS_PER_FILE,
    EpisodeRow,
    Statistics,
    episodes_file,
    merge,
    of_numbers,
)
from dfm_vla_ros.files import write_json
from dfm_vla_ros.schema import read_json

LOCK = ".lock"


def lock(folder: Path) -> int:
    """Return an open file that holds the folder's lock; closing it lets others in."""
    path = folder / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.read(descriptor, 100).decode(errors="replace").strip()
        os.close(descriptor)
        raise DatasetError(
            f"{folder} is being written by process {owner or 'unknown'}; wait until it is done, "
            "or give another folder"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def check_same(info: Info, spec: DatasetSpec, storage: str, folder: Path) -> None:
    """Check that ``folder`` can be continued with episodes of ``spec``; raises DatasetError."""
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
    """Check that an episode fits the data set; raises DatasetError."""
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


def counted_frames(folder: Path) -> int:
    """Return of how many frames ``meta/stats.json`` is; 0 if it is absent."""
    path = folder / STATS
    if not path.exists():
        return 0
    try:
        return int(read_json(path, DatasetError)[ACTION]["count"][0])
    except (ValueError, LookupError, TypeError) as error:
        raise DatasetError(f"{path} is damaged ({error!r}); delete it") from error


def write_statistics(folder: Path, info: Info, rows: Sequence[EpisodeRow]) -> None:
    """Write ``meta/stats.json``: exact for numbers, bounds for the quantiles of images."""
    paths = sorted({folder / row.data.path(DATA) for row in rows})
    found = {}
    for name, feature in info.features.items():
        if feature.is_camera:
            found[name] = merge(read_statistics(folder, name)[: info.episodes])
        else:
            parts = [tables.numbers(tables.read_table(path, [name]), name, path) for path in paths]
            values = np.concatenate(parts)[: info.frames]
            found[name] = of_numbers(values if values.ndim > 1 else values[:, None])
    content = {n: {k: v.tolist() for k, v in part.items()} for n, part in found.items()}
    write_json(folder / STATS, content)


def read_statistics(folder: Path, feature: str) -> list[Statistics]:
    """Return the statistics of one feature of each episode that is in ``meta/episodes``."""
    found: list[Statistics] = []
    for path in sorted((folder / "meta/episodes").glob("chunk-*/file-*.parquet")):
        prefix = f"stats/{feature}/"
        names = [name for name in tables.column_names(path) if name.startswith(prefix)]
        rows = tables.read_table(path, names).to_pylist() if names else []
        found += [{k.removeprefix(prefix): np.array(v) for k, v in row.items()} for row in rows]
    return found


PATTERNS = ("data/chunk-*/*", "videos/*/chunk-*/*", "meta/episodes/chunk-*/*")


def check_empty(folder: Path) -> None:
    """Check that a folder without ``meta/info.json`` is no data set that lost it."""
    for pattern in PATTERNS:
        for path in folder.glob(pattern):
            raise DatasetError(
                f"{folder} has {path.relative_to(folder)} but no meta/info.json; restore that, or "
                "write to another folder"
            )


def recover(folder: Path, rows: Sequence[EpisodeRow]) -> None:
    """Remove files and rows that belong to no committed episode.

    Frames too many at a video's end do no harm; the next episode takes their place.
    """
    known = {folder / p for row in rows for p in (*row.files(), episodes_file(row.number))}
    for pattern in PATTERNS:
        for path in set(folder.glob(pattern)) - known:
            path.unlink()
    if rows:
        last = rows[-1]
        lengths = [row.length for row in rows if row.data.file == last.data.file]
        _trim(folder / last.data.path(DATA), lengths)
        _trim(folder / episodes_file(last.number), [last.number % ROWS_PER_FILE + 1])


def committed(path: Path, length: int) -> pa.Table:
    """Return the first ``length`` rows of a file; raises DatasetError if there are fewer."""
    table = tables.read_table(path)
    if len(table) < length:
        raise DatasetError(f"{path} has {len(table)} rows, needs {length}; restore it")
    return table.slice(0, length)


def _trim(path: Path, lengths: Sequence[int]) -> None:
    """Keep the rows of the episodes (or of all rows) that are ``lengths`` long."""
    table = committed(path, sum(lengths))
    if tables.count_rows(path) > len(table):
        tables.write_table(path, table, lengths)
