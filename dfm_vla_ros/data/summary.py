"""The statistics of a whole data set: ``meta/stats.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dfm_vla_ros.data import tables
from dfm_vla_ros.data.files import replace_json
from dfm_vla_ros.data.format import ACTION, DATA, STATS, DatasetError, Info
from dfm_vla_ros.data.index import Row
from dfm_vla_ros.data.statistics import NAMES, Statistics, merge, of_numbers

NOT_NUMBERS = ("string", "language")
"""Kinds of columns that others' data sets may have."""


def read_summary(folder: Path) -> tuple[dict[str, Statistics], int]:
    """Return ``meta/stats.json`` and of how many frames it is; ({}, 0) if it is absent.

    Raises:
        DatasetError: it is damaged.
    """
    path = folder / STATS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {n: {k: np.array(v) for k, v in part.items()} for n, part in content.items()}
        return found, int(found[ACTION]["count"][0])
    except FileNotFoundError:
        return {}, 0
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is damaged ({error!r}); delete it") from error


def write_summary(folder: Path, info: Info, rows: Sequence[Row]) -> None:
    """Write ``meta/stats.json``: exact for numbers, bounds for the quantiles of images."""
    found = exact_statistics(folder, info, rows)
    content = {n: {k: v.tolist() for k, v in part.items()} for n, part in found.items()}
    replace_json(folder / STATS, content)


def exact_statistics(folder: Path, info: Info, rows: Sequence[Row]) -> dict[str, Statistics]:
    """Return the statistics of all features over the committed episodes."""
    paths = sorted({folder / row.data.path(DATA) for row in rows})
    found = {}
    for name, feature in info.content["features"].items():
        if tables.is_camera(feature):
            parts = read_statistics(folder, name)[: info.episodes]
            parts = [part for part in parts if set(NAMES) <= set(part)]  # of others: maybe not
            if parts:
                found[name] = merge(parts)
        elif len(feature["shape"]) == 1 and feature["dtype"] not in NOT_NUMBERS:
            parts = [tables.numbers(tables.read_table(path, [name]), name, path) for path in paths]
            values = np.concatenate(parts)[: info.frames]
            found[name] = of_numbers(values if values.ndim > 1 else values[:, None])
    return found


def read_statistics(folder: Path, feature: str) -> list[Statistics]:
    """Return the statistics of one feature of each episode that is in ``meta/episodes``."""
    found: list[Statistics] = []
    for path in sorted((folder / "meta/episodes").glob("chunk-*/file-*.parquet")):
        prefix = f"stats/{feature}/"
        names = [name for name in tables.column_names(path) if name.startswith(prefix)]
        rows = tables.read_table(path, names).to_pylist() if names else []
        found += [{k.removeprefix(prefix): np.array(v) for k, v in row.items()} for row in rows]
    return found
