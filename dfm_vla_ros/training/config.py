"""What a training run is told: one YAML file and ``key=value`` on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import dacite
import yaml

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.model.checkpoint import DecoderConfig, PathConfig
from dfm_vla_ros.model.fsq import FsqConfig


class ConfigError(DfmVlaError):
    """A key that does not exist or a value of the wrong type."""


@dataclass(frozen=True)
class VisionConfig:
    """Training of the image tokenizer (it is frozen afterwards).

    Attributes:
        checkpoint: take the image tokenizer of this folder (a small checkpoint, or what
            ``dfm-vla tokenizer fit-images`` wrote) instead of training one.
        images_per_episode: images of each camera to train on.
        steps: optimiser steps of ``batch`` images; ``lr`` is the peak of a cosine.
    """

    network: FsqConfig = field(default_factory=FsqConfig)
    checkpoint: str = ""
    images_per_episode: int = 7
    steps: int = 1500
    batch: int = 48
    lr: float = 2e-3


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the refiner.

    Attributes:
        grouping: action tokens that share a position; 14 groups the joints of a step, 1 none.
    """

    width: int = 192
    layers: int = 4
    heads: int = 6
    text_length: int = 8
    grouping: int = 14


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    Attributes:
        data: folders of episodes (``dfm-vla collect``).
        out: checkpoint folder to write; ``out``.csv beside it holds the losses.
        episodes: use at most so many episodes of each folder; 0 is all.
        steps: optimiser steps of ``batch`` prefixes with ``replicas`` noised action sequences
            each, the first always at t = 0, the others at t = u ** time_power, u ~ U[0, 1].
        smoothing_bins: standard deviation of the label's distribution over bins.
        code_dropout: share of the image patches that are blanked in training.
        lr: peak learning rate of AdamW (embeddings, biases, heads); muon_lr: of Muon (matrices
            of the transformer), scaled to the size of an AdamW update.
        save_every: steps between checkpoints; the last one is always written.
    """

    data: tuple[str, ...]
    out: str
    episodes: int = 0
    steps: int = 8000
    batch: int = 32
    replicas: int = 4
    horizon: int = 8
    action_vocabulary: int = 256
    lr: float = 1.5e-3
    muon_lr: float = 0.003
    weight_decay: float = 0.05
    warmup_steps: int = 200
    clip: float = 1.0
    ema: float = 0.998
    time_power: float = 2.0
    smoothing_bins: float = 1.5
    code_dropout: float = 0.02
    held_out: float = 0.03
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    bf16: bool = True
    save_every: int = 1000
    vision: VisionConfig = field(default_factory=VisionConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    path: PathConfig = field(default_factory=PathConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)


def load_config(path: Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """Return the run that ``path`` describes, with ``key=value`` or ``group.key=value`` on top.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or a type is wrong; the message
            names the key and the nearest one that exists.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    for override in overrides:
        _apply(content, override)
    _check_keys(TrainConfig, content, "")
    try:
        return dacite.from_dict(TrainConfig, content, dacite.Config(strict=True, cast=[tuple]))
    except dacite.DaciteError as error:
        raise ConfigError(f"{path}: {error}") from error


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"{override!r} is not of the form key=value")
    *groups, last = key.split(".")
    for group in groups:
        content = content.setdefault(group, {})
    content[last] = yaml.safe_load(value)


def _check_keys(schema: type, content: Any, prefix: str) -> None:
    if not isinstance(content, dict):
        raise ConfigError(f"{prefix.rstrip('.') or 'the file'} must hold keys, got {content!r}")
    types = get_type_hints(schema)
    known = [f.name for f in fields(schema)]
    for key, value in content.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else f"; known: {known}"
            raise ConfigError(f"unknown key {prefix}{key}{hint}")
        if is_dataclass(types[key]):
            _check_keys(types[key], value, f"{prefix}{key}.")
