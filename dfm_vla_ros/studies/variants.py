"""A study's rows as what is trained and run: typed, checked, named by their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.evaluation.runner import LoopConfig
from dfm_vla_ros.model.caching import Caching
from dfm_vla_ros.model.folder import DecoderConfig, PathConfig
from dfm_vla_ros.model.loading import load_checkpoint
from dfm_vla_ros.robot.chunks import JoinMode
from dfm_vla_ros.schema import apply, differing, parse, plain
from dfm_vla_ros.sim.perturbations import Setting
from dfm_vla_ros.studies.schema import Row, Study, StudyError
from dfm_vla_ros.training.config import TrainConfig

OWN = ("out", "seed", "token_cache", "resume", "threads", "device", "save_every")
"""Keys of a training run that the study decides, or that change no result."""
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Variant:
    """A row with one of its training seeds; what a worker is given.

    Attributes:
        row: its name.
        seed: of training; 0 for a checkpoint that was given.
        train: the run; None: ``checkpoint`` was given.
        checkpoint: folder, where the run leaves it.
        changes: of ``decoder``, ``caching``, ``path``.
        loop: how the loop runs; ``execute_steps`` 0: as the checkpoint says.
        setting: of the twin.
        dark_cameras: that see black.
    """

    row: str
    seed: int
    train: TrainConfig | None
    checkpoint: Path
    changes: dict[str, dict[str, Any]]
    loop: LoopConfig
    setting: Setting
    dark_cameras: tuple[str, ...]

    def definition(self, checkpoint_hash: str) -> dict[str, Any]:
        """Return what decides its episodes, for JSON."""
        found = {
            "checkpoint": checkpoint_hash,
            "changes": self.changes,
            "loop": asdict(self.loop) | {"mode": self.loop.mode.name},
            "setting": asdict(self.setting),
            "dark_cameras": self.dark_cameras,
        }
        return json.loads(json.dumps(found))

    def decoder(self) -> DecoderConfig:
        """Return the checkpoint's decoder with the changes."""
        own = load_checkpoint(self.checkpoint).config.decoder
        return changed(own, self.changes["decoder"], self.row, "decoder")

    def caching(self) -> Caching:
        """Return what evaluations keep."""
        return changed(Caching(), self.changes["caching"], self.row, "caching")

    def path(self, own: PathConfig) -> PathConfig:
        """Return the checkpoint's ``own`` path with the changes."""
        return changed(own, self.changes["path"], self.row, "path")


def changed(value: Settings, changes: Mapping[str, Any], row: str, group: str) -> Settings:
    """Return ``value`` with ``changes``.

    Raises:
        StudyError: a name is none of its fields, or a value makes no sense.
    """
    try:
        return parse(type(value), {**plain(value), **changes}) if changes else value
    except DfmVlaError as error:
        raise StudyError(f"row {row!r}, {group}: {error}") from error


def variants(study: Study, runs: Path, shipped: Path) -> list[Variant]:
    """Return what is to be run, row by row.

    Args:
        study: its description.
        runs: folder of training runs; studies may share it, and then the runs that are alike.
        shipped: checkpoint of the rows that neither train nor name one.

    Raises:
        StudyError: a change makes no sense, or names of rows mean the same folder.
    """
    found = [variant for row in study.rows for variant in _of_row(study, row, runs, shipped)]
    folders = [folder_name(variant) for variant in found]
    twice = sorted({name for name in folders if folders.count(name) > 1})
    if twice:
        raise StudyError(f"rows {', '.join(twice)} have one name as a folder: rename one")
    return found


def folder_name(variant: Variant) -> str:
    """Return a name for a folder of the variant's own."""
    safe = "".join(c if c.isalnum() or c in ".-" else "_" for c in variant.row)
    return f"{safe}_seed{variant.seed}"


def _of_row(study: Study, row: Row, runs: Path, shipped: Path) -> Iterator[Variant]:
    trains = bool(study.train or row.train) and not row.checkpoint
    changes = {"decoder": row.decoder, "caching": row.caching, "path": row.path}
    plain_loop = {**asdict(LoopConfig()), "mode": "RTC", "execute_steps": 0}
    loop = _loop({**plain_loop, **study.loop, **row.loop}, row)
    setting = changed(Setting(), {**study.setting, **row.setting}, row.name, "setting")
    given = Path(row.checkpoint or study.checkpoint or shipped)
    for seed in range((row.seeds or study.seeds) if trains else 1):
        train = _train(study, row, seed, runs) if trains else None
        folder = Path(train.out) / "checkpoint" if train else given
        yield Variant(row.name, seed, train, folder, changes, loop, setting, row.dark_cameras)


def _loop(content: dict[str, Any], row: Row) -> LoopConfig:
    try:
        mode = JoinMode[str(content.pop("mode")).upper()]
        return LoopConfig(**content, mode=mode)
    except (KeyError, TypeError) as error:
        raise StudyError(f"row {row.name!r}, loop: {error}") from error


def _train(study: Study, row: Row, seed: int, runs: Path) -> TrainConfig:
    """Return the run of a row; rows that train alike share it."""
    content: dict[str, Any] = {}
    try:
        for name, value in {**study.train, **row.train}.items():
            apply(content, f"{name}={json.dumps(value)}")
        config = parse(TrainConfig, {**content, "out": str(runs), "seed": seed})
    except DfmVlaError as error:
        raise StudyError(f"row {row.name!r}, train: {error}") from error
    # What equals the default is left out, so that a new key changes no name.
    plainest = TrainConfig(data=("",), out="")
    kept = {name: plain(value) for name, value, _ in differing(config, plainest)}
    kept = {name: value for name, value in kept.items() if name not in OWN}
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
    folder = runs / f"{config.objective}_{digest}_seed{seed}"
    return replace(config, out=str(folder), token_cache=config.token_cache or str(runs / "codes"))
