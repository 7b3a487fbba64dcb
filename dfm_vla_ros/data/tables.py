"""The parquet files of a data set: frames, episodes, tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dfm_vla_ros.data.format import (
    ACTION,
    COMMANDED,
    IMAGES,
    POSES,
    STATE,
    DatasetError,
    Episode,
    Feature,
)
from dfm_vla_ros.files import replacing

PNG_LEVEL = 3
_PNG = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def columns(episode: Episode, number: int, first: int, task: int) -> dict[str, NDArray]:
    """Return the columns of an episode's frames that are numbers, each (T,) or (T, D).

    Args:
        episode: to be written.
        number: of the episode in the data set.
        first: number of its first frame in the data set.
        task: index of its sentence.
    """
    length = len(episode)
    frame = np.arange(length)
    found = {
        STATE: episode.positions,
        COMMANDED: episode.commanded,
        # What is due one period later; the last one stays.
        ACTION: np.concatenate([episode.targets[1:], episode.targets[-1:]]),
        "timestamp": (frame * episode.period_s).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.full(length, number),
        "index": first + frame,
        "task_index": np.full(length, task),
    }
    return found if episode.poses is None else found | {POSES: episode.poses}


def frame_table(
    numbers: dict[str, NDArray], images: dict[str, NDArray[np.uint8]], features: dict[str, Feature]
) -> pa.Table:
    """Return the rows of an episode; ``images`` only of the cameras that are stored as PNG."""
    arrays = {}
    for name, feature in features.items():
        if feature.dtype == "image":
            arrays[name] = _png_column(images[name.removeprefix(IMAGES)])
        elif feature.dtype != "video":
            arrays[name] = _number_column(numbers[name], feature.dtype)
    return pa.table(arrays).replace_schema_metadata(_hub_metadata(features))


def _number_column(values: NDArray, dtype: str) -> pa.Array:
    values = np.ascontiguousarray(values, dtype)
    flat = pa.array(values.ravel())
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _png_column(images: NDArray[np.uint8]) -> pa.Array:
    options = [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL]
    files = [cv2.imencode(".png", image[..., ::-1], options)[1].tobytes() for image in images]
    rows = [{"bytes": file, "path": f"frame-{i:06d}.png"} for i, file in enumerate(files)]
    return pa.array(rows, _PNG)


def _hub_metadata(features: dict[str, Feature]) -> dict[str, str]:
    """Return the note by which Hugging Face's ``datasets`` knows the images."""
    types: dict[str, Any] = {}
    for name, feature in features.items():
        value = {"dtype": feature.dtype, "_type": "Value"}
        if feature.dtype == "image":
            types[name] = {"_type": "Image"}
        elif feature.dtype != "video":
            listed = {"feature": value, "length": feature.shape[0], "_type": "List"}
            types[name] = value if feature.names is None else listed
    return {"huggingface": json.dumps({"info": {"features": types}})}


def write_table(path: Path, table: pa.Table, lengths: Sequence[int] = ()) -> None:
    """Write a file whole, a row group for each of ``lengths``, so that one can be read alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(path) as partial,
        pq.ParquetWriter(partial, table.schema, compression="snappy") as writer,
    ):
        start = 0
        for length in lengths or [len(table)]:
            writer.write_table(table.slice(start, length))
            start += length


def read_table(path: Path, names: list[str] | None = None, episode: int | None = None) -> pa.Table:
    """Read a parquet file, or the rows of one episode; raises DatasetError."""
    with _whole(path):
        if episode is not None:
            filters = [("episode_index", "==", episode)]
            return pq.read_table(path, columns=names, filters=filters, use_threads=False)
        with pq.ParquetFile(path) as file:
            return file.read(names, use_threads=False)


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a parquet file; raises DatasetError."""
    with _whole(path):
        return pq.read_schema(path).names


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing; restore it or collect the data again") from error
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path} is no whole parquet file ({error}); restore it") from error


def count_rows(path: Path) -> int:
    """Return the number of rows of a parquet file that was read before."""
    return pq.read_metadata(path).num_rows


def numbers(table: pa.Table, name: str, path: Path) -> NDArray:
    """Return a column of ``path`` as an array (F,) or (F, D)."""
    if name not in table.column_names:
        raise DatasetError(f"{path} has no column {name}; restore it")
    column = table.column(name).combine_chunks()
    if pa.types.is_primitive(column.type):
        return column.to_numpy(zero_copy_only=False).copy()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    if len(flat) % max(len(column), 1):
        raise DatasetError(f"{path}: the rows of {name} differ in length; restore it")
    return flat.reshape(len(column), -1).copy()


def pictures(table: pa.Table, name: str, path: Path) -> NDArray[np.uint8]:
    """Return a column of PNG (or JPEG) files of ``path`` as images (F, H, W, 3), RGB."""
    found = []
    for row in table.column(name).to_pylist():
        image = cv2.imdecode(np.frombuffer(row["bytes"], np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise DatasetError(f"{path}: image {len(found)} of {name} is damaged; restore it")
        found.append(image[..., ::-1])
    return np.stack(found)


def task_table(sentences: Sequence[str]) -> pa.Table:
    """Return ``meta/tasks.parquet``: the sentences are the index of a pandas frame."""
    table = pa.table(
        {"task_index": pa.array(range(len(sentences)), pa.int64()), "task": sentences}
    )
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    described = [
        {"name": n, "field_name": n, "pandas_type": p, "numpy_type": k, "metadata": None}
        for n, (p, k) in kinds.items()
    ]
    note = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": described,
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(note)})
