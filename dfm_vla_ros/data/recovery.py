"""Put a data set right after a writer was killed: leave what is committed, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from dfm_vla_ros.data import tables
from dfm_vla_ros.data.files import replace_file
from dfm_vla_ros.data.format import DATA, VIDEO, DatasetError
from dfm_vla_ros.data.index import ROWS_PER_FILE, Row, episodes_file

PATTERNS = ("data/chunk-*/*", "videos/*/chunk-*/*", "meta/episodes/chunk-*/*")


def check_empty(folder: Path) -> None:
    """Check that a folder without a commit record is no data set that lost it.

    Raises:
        DatasetError: it has files of one.
    """
    for pattern in PATTERNS:
        for path in folder.glob(pattern):
            raise DatasetError(
                f"{folder} has {path.relative_to(folder)} but no meta/info.json; restore that, or "
                "write to another folder"
            )


def recover(folder: Path, rows: Sequence[Row]) -> None:
    """Remove files and rows that belong to no committed episode.

    Frames too many at a video's end do no harm; the next episode takes their place.
    """
    known = {path for row in rows for path in _files(folder, row)}
    for pattern in PATTERNS:
        for path in set(folder.glob(pattern)) - known:
            path.unlink()
    if rows:
        last = rows[-1]
        lengths = [row.length for row in rows if row.data.file == last.data.file]
        _trim(folder / last.data.path(DATA), lengths)
        _trim(folder / episodes_file(last.number), [last.number % ROWS_PER_FILE + 1])


def committed(path: Path, length: int) -> pa.Table:
    """Return the first ``length`` rows of a file.

    Raises:
        DatasetError: there are fewer.
    """
    table = tables.read_table(path)
    if len(table) < length:
        raise DatasetError(f"{path} has {len(table)} rows, needs {length}; restore it")
    return table.slice(0, length)


def _files(folder: Path, row: Row) -> list[Path]:
    videos = [folder / p.path(VIDEO, video_key=name) for name, p in row.videos.items()]
    return [folder / row.data.path(DATA), folder / episodes_file(row.number), *videos]


def _trim(path: Path, lengths: Sequence[int]) -> None:
    """Keep the rows of the episodes (or of all rows) that are ``lengths`` long."""
    table = committed(path, sum(lengths))
    if tables.count_rows(path) > len(table):
        replace_file(path, lambda partial: tables.write_frames(partial, table, lengths))
