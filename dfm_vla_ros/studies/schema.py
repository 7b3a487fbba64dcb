"""What a study compares: one YAML file, a row of a table for each variant.

A variant is a network, trained with the changes of ``train``, or a checkpoint, run with the
changes of ``decoder``, ``caching``, ``path``, ``loop`` and ``setting``. Everything else is the
same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.training.schema import ConfigError, about, build, key, plain, required


class StudyError(DfmVlaError):
    """A study that cannot be run as its file says."""


@dataclass(frozen=True)
class Row:
    """One variant; each mapping holds what differs from the study's."""

    name: str = required("of the row, in the table")
    train: dict[str, Any] = field(
        default_factory=dict, metadata=about("keys of dfm-vla train, such as path.c")
    )
    checkpoint: str = key("", "folder to take instead of training one")
    seeds: int = key(0, "of training: 0, 1 and so on; 0: as many as the study says", low=0)
    decoder: dict[str, Any] = field(
        default_factory=dict, metadata=about("fields of DecoderConfig")
    )
    caching: dict[str, Any] = field(default_factory=dict, metadata=about("fields of Caching"))
    path: dict[str, Any] = field(
        default_factory=dict, metadata=about("fields of PathConfig, while decoding")
    )
    loop: dict[str, Any] = field(default_factory=dict, metadata=about("fields of LoopConfig"))
    setting: dict[str, Any] = field(
        default_factory=dict, metadata=about("fields of Setting: conditions of the twin")
    )
    dark_cameras: tuple[str, ...] = key((), "that see black")


@dataclass(frozen=True)
class Study:
    """A table to be made; the first row is what the others are compared with."""

    tasks: tuple[str, ...] = required("each row's")
    rows: tuple[Row, ...] = required("of the table, by name")
    episodes: int = key(50, "of each task and trained network", low=1)
    seed: int = key(5_000_000, "of the first episode; no training, no choice saw it", low=0)
    seeds: int = key(1, "training runs of each row", low=1)
    train: dict[str, Any] = field(
        default_factory=dict, metadata=about("keys of dfm-vla train that all rows share")
    )
    checkpoint: str = key("", "of the rows that neither train nor name one; default: the shipped")
    loop: dict[str, Any] = field(
        default_factory=dict, metadata=about("fields of LoopConfig that all rows share")
    )
    setting: dict[str, Any] = field(
        default_factory=dict, metadata=about("conditions of the twin that all rows share")
    )


def load_study(path: Path) -> Study:
    """Return the study of a YAML file.

    Raises:
        StudyError: it cannot be read, or a key or value makes no sense.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise StudyError(f"{path} cannot be read: {error}") from error
    return parse(content, str(path))


def parse(content: Any, source: str) -> Study:
    """Return the study that ``content`` of ``source`` says; raises StudyError."""
    rows = content.get("rows") if isinstance(content, Mapping) else None
    if not isinstance(rows, Mapping) or not rows:
        raise StudyError(f"{source}: rows is missing: names of variants and what differs in each")
    named = [{"name": name, **(row or {})} for name, row in rows.items()]
    try:
        return build(Study, {**content, "rows": named})
    except ConfigError as error:
        raise StudyError(f"{source}: {error}") from error


def content(study: Study) -> dict[str, Any]:
    """Return the study as JSON knows it."""
    return plain(study)
