"""``meta/episodes``: a row for each episode, which says where its frames are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dfm_vla_ros.data.format import DATA, EPISODES, FILES_PER_CHUNK, VIDEO, DatasetError, Info
from dfm_vla_ros.data.tables import column_names, read_table

Array = NDArray[np.float64]
Statistics = dict[str, NDArray]
"""min, max, mean, std, count and the quantiles of one feature."""

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
LARGEST_SIDE = 150
"""Images are thinned out to about so many pixels a side [px]."""
MOST_IMAGES = 100
"""Of one camera and episode."""


def of_numbers(values: NDArray) -> Statistics:
    """Return the exact statistics of a column (F, D) over its frames; quantiles interpolate."""
    values = np.asarray(values, np.float64)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def of_images(images: NDArray[np.uint8]) -> Statistics:
    """Return the statistics of each colour (3, 1, 1), in [0, 1], of images (T, H, W, 3).

    Long episodes and large images are thinned out evenly, see :data:`MOST_IMAGES`.
    """
    chosen = np.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).round().astype(int)
    stride = max(1, max(images.shape[1:3]) // LARGEST_SIDE)
    pixels = images[chosen, ::stride, ::stride]
    counts = [np.bincount(pixels[..., c].ravel(), minlength=256) for c in range(3)]
    parts = [_of_histogram(count) for count in counts]
    found = {k: np.array([part[k] for part in parts]).reshape(3, 1, 1) / 255 for k in parts[0]}
    return found | {"count": np.array([len(chosen)])}


def _of_histogram(counts: NDArray[np.int64]) -> dict[str, float]:
    """Return the statistics of the values 0..255 that occur ``counts`` (256,) times."""
    values, total = np.arange(256), counts.sum()
    present = np.flatnonzero(counts)
    mean = counts @ values / total
    below = np.cumsum(counts)
    return {
        "min": present[0],
        "max": present[-1],
        "mean": mean,
        "std": np.sqrt(counts @ (values - mean) ** 2 / total),
        **{name: np.searchsorted(below, q * total) for name, q in QUANTILES.items()},
    }


def merge(parts: Sequence[Statistics]) -> Statistics:
    """Return the statistics of all parts together; quantiles are bounds of the true ones."""
    stacked = {name: np.stack([part[name] for part in parts]) for name in NAMES}
    count = stacked["count"].reshape(-1, *[1] * (stacked["mean"].ndim - 1))
    mean = (stacked["mean"] * count).sum(0) / count.sum()
    spread = stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2
    return {
        "min": stacked["min"].min(0),
        "max": stacked["max"].max(0),
        "mean": mean,
        "std": np.sqrt((spread * count).sum(0) / count.sum()),
        "count": stacked["count"].sum(0),
        **{
            name: stacked[name].min(0) if q <= 0.5 else stacked[name].max(0)
            for name, q in QUANTILES.items()
        },
    }


ROWS_PER_FILE = 250
"""A new file of ``meta/episodes`` is begun after so many episodes."""


@dataclass(frozen=True)
class Place:
    """Frames ``start`` .. ``start + length - 1`` of a file.

    Attributes:
        file: number of the file over all chunks.
        start: first frame, counted from the beginning of the file.
        length: how many.
    """

    file: int
    start: int
    length: int

    def path(self, template: str, **names: str) -> Path:
        """Return the file, below the data set's folder."""
        chunk, file = divmod(self.file, FILES_PER_CHUNK)
        return Path(template.format(chunk_index=chunk, file_index=file, **names))


@dataclass(frozen=True)
class EpisodeRow:
    """One episode.

    Attributes:
        number: in the order in which the episodes were written.
        key: unique name.
        task: name of the task.
        sentence: its instruction.
        seed: of the layout.
        success: whether the task was done.
        first: number of its first frame in the data set.
        data: the file of its numbers, in which it is found by ``number``.
        videos: feature of a camera -> where its images are.
        statistics: feature -> statistics; not read back by :func:`read_rows`.
        style: how it was done, where there are several ways.
    """

    number: int
    key: str
    task: str
    sentence: str
    seed: int
    success: bool
    first: int
    data: Place
    videos: dict[str, Place]
    statistics: dict[str, Statistics] = field(default_factory=dict, repr=False)
    style: str = ""

    @property
    def length(self) -> int:
        """Number of frames."""
        return self.data.length

    def files(self) -> Iterator[Path]:
        """Yield the files of its frames, below the data set's folder."""
        yield self.data.path(DATA)
        for name, place in self.videos.items():
            yield place.path(VIDEO, video_key=name)


def row_table(row: EpisodeRow, fps: int) -> pa.Table:
    """Return the row as ``meta/episodes`` has it."""
    found: dict[str, Any] = {
        "episode_index": row.number,
        "tasks": [row.sentence],
        "length": row.length,
        **_place("data", row.data),
        "dataset_from_index": row.first,
        "dataset_to_index": row.first + row.length,
    }
    for name, place in row.videos.items():
        found |= _place(f"videos/{name}", place)
        found[f"videos/{name}/from_timestamp"] = place.start / fps
        found[f"videos/{name}/to_timestamp"] = (place.start + place.length) / fps
    for name, statistics in row.statistics.items():
        found |= {f"stats/{name}/{k}": v.tolist() for k, v in statistics.items()}
    found |= _place("meta/episodes", Place(row.number // ROWS_PER_FILE, 0, 0))
    found |= {"key": row.key, "task_name": row.task, "seed": row.seed, "success": row.success}
    found["style"] = row.style
    return pa.table({name: pa.array([value], _type(name, value)) for name, value in found.items()})


def _place(name: str, place: Place) -> dict[str, int]:
    chunk, file = divmod(place.file, FILES_PER_CHUNK)
    return {f"{name}/chunk_index": chunk, f"{name}/file_index": file}


def _type(name: str, value: Any) -> pa.DataType | None:
    """Return float64 for statistics, of which some are whole numbers by chance."""
    if not name.startswith("stats/") or name.endswith("/count"):
        return None
    kind = pa.float64()
    while isinstance(value, list):
        kind, value = pa.list_(kind), value[0]
    return kind


def read_rows(folder: Path, info: Info) -> list[EpisodeRow]:
    """Return the rows of the committed episodes, by number; raises DatasetError if some lack."""
    paths = sorted((folder / "meta/episodes").glob("chunk-*/file-*.parquet"))
    found = [row for path in paths for row in _rows(path, info)]
    rows = sorted((row for row in found if row.number < info.episodes), key=lambda r: r.number)
    if [row.number for row in rows] != list(range(info.episodes)):
        raise DatasetError(
            f"{folder / 'meta/episodes'} has {len(rows)} of the {info.episodes} episodes of "
            "meta/info.json; restore it"
        )
    frames = sum(row.length for row in rows)
    if frames != info.frames:
        raise DatasetError(
            f"{folder / 'meta/episodes'} has {frames} frames, meta/info.json says {info.frames}; "
            "restore them"
        )
    return rows


def _rows(path: Path, info: Info) -> list[EpisodeRow]:
    names = [name for name in column_names(path) if not name.startswith("stats/")]
    table = read_table(path, names)
    cameras = [name for name, feature in info.features.items() if feature.dtype == "video"]
    try:
        return [_row(values, cameras, info) for values in table.to_pylist()]
    except KeyError as error:
        raise DatasetError(f"{path} has no column {error}; restore it") from error


def _row(values: dict[str, Any], cameras: Sequence[str], info: Info) -> EpisodeRow:
    # Columns that only this package writes may be absent.
    length, fps = values["length"], info.spec.fps
    number, sentence = values["episode_index"], values["tasks"][0]
    videos = {}
    for name in cameras:
        start = round(values[f"videos/{name}/from_timestamp"] * fps)
        videos[name] = Place(_file(values, f"videos/{name}"), start, length)
    return EpisodeRow(
        number,
        values.get("key") or f"episode_{number:06d}",
        values.get("task_name") or sentence,
        sentence,
        values.get("seed") or 0,
        values.get("success", True) is not False,
        values["dataset_from_index"],
        Place(_file(values, "data"), 0, length),
        videos,
        style=values.get("style") or "",
    )


def _file(values: dict[str, Any], name: str) -> int:
    return values[f"{name}/chunk_index"] * FILES_PER_CHUNK + values[f"{name}/file_index"]


def episodes_file(number: int) -> Path:
    """Return the file that holds the row of episode ``number``, below the folder."""
    return Place(number // ROWS_PER_FILE, 0, 0).path(EPISODES)
