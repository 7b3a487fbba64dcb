"""What a study compares: one YAML file, a row of a table for each variant.

A variant is a network, trained with the changes of ``train``, or a checkpoint, run with the
changes of ``decoder``, ``caching``, ``path``, ``loop`` and ``setting``. Everything else is the
same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.schema import Texts, key, parse, plain, read_yaml, settings


class StudyError(DfmVlaError):
    """A study that cannot be run as its file says."""


@settings
class Row:
    """One variant; each mapping holds what differs from the study's."""

    name: str = key(..., "of the row, in the table")
    train: dict[str, Any] = key({}, "keys of dfm-vla train, such as path.c")
    checkpoint: str = key("", "folder to take instead of training one")
    seeds: int = key(0, "of training: 0, 1 and so on; 0: as many as the study says", ge=0)
    decoder: dict[str, Any] = key({}, "fields of DecoderConfig")
    caching: dict[str, Any] = key({}, "fields of Caching")
    path: dict[str, Any] = key({}, "fields of PathConfig, while decoding")
    loop: dict[str, Any] = key({}, "fields of LoopConfig")
    setting: dict[str, Any] = key({}, "fields of Setting: conditions of the twin")
    dark_cameras: Texts = key((), "that see black")


@settings
class Study:
    """A table to be made; the first row is what the others are compared with."""

    tasks: Texts = key(..., "each row's")
    rows: tuple[Row, ...] = key(..., "of the table, by name")
    episodes: int = key(50, "of each task and trained network", ge=1)
    seed: int = key(5_000_000, "of the first episode; no training, no choice saw it", ge=0)
    seeds: int = key(1, "training runs of each row", ge=1)
    train: dict[str, Any] = key({}, "keys of dfm-vla train that all rows share")
    checkpoint: str = key("", "of the rows that neither train nor name one; default: the shipped")
    loop: dict[str, Any] = key({}, "fields of LoopConfig that all rows share")
    setting: dict[str, Any] = key({}, "conditions of the twin that all rows share")


def load_study(path: Path) -> Study:
    """Return the study of a YAML file.

    Raises:
        StudyError: it cannot be read, or a key or value makes no sense.
    """
    return parse_study(read_yaml(path, (), StudyError), str(path))


def parse_study(content: Any, source: str) -> Study:
    """Return the study that ``content`` of ``source`` says; raises StudyError."""
    rows = content.get("rows") if isinstance(content, Mapping) else None
    if not isinstance(rows, Mapping) or not rows:
        raise StudyError(f"{source}: rows is missing: names of variants and what differs in each")
    named = [{"name": name, **(row or {})} for name, row in rows.items()]
    return parse(Study, {**content, "rows": named}, source, StudyError)


def content(study: Study) -> dict[str, Any]:
    """Return the study as JSON knows it."""
    return plain(study)
