"""What all checkpoint folders share: written whole, read strictly, identified by a hash."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import dacite
import torch

from dfm_vla_ros.flow.distances import OrderedDistance
from dfm_vla_ros.flow.paths import MaskedPath, MetricPath, MixturePath
from dfm_vla_ros.flow.paths import Path as FlowPath
from dfm_vla_ros.flow.schedules import MetricSchedule
from dfm_vla_ros.flow.solvers import SolverConfig
from dfm_vla_ros.model.weights import CheckpointError

CONFIG = "config.json"
Config = TypeVar("Config")
Method = Literal["flow", "autoregressive", "masked", "remasked", "one_step", "regression"]


@dataclass(frozen=True)
class PathConfig:
    """The path that the weights were trained on.

    Attributes:
        scale: of the distance, d = scale |i - j| / (K - 1).
        c: of the metric schedule.
        alpha: of the metric schedule.
        kind: ``metric`` for ordered tokens, ``mixture`` (from uniform noise) for those without
            order, ``masked`` from MASK; then the numbers above mean nothing.
    """

    scale: float = 32.0
    c: float = 3.0
    alpha: float = 1.0
    kind: Literal["metric", "mixture", "masked"] = "metric"

    def build(self, vocabulary_size: int) -> FlowPath:
        """Return the path over K = ``vocabulary_size`` tokens."""
        if self.kind == "mixture":
            return MixturePath(vocabulary_size)
        if self.kind == "masked":
            return MaskedPath(vocabulary_size)
        values = torch.linspace(0, 1, vocabulary_size)
        distance = OrderedDistance(values, scale=self.scale)
        return MetricPath(distance, MetricSchedule(self.c, self.alpha))


@dataclass(frozen=True)
class DecoderConfig:
    """How a chunk is refined unless the caller says otherwise.

    Attributes:
        method: what the network was trained for: ``flow`` along the path (with the rates of a
            velocity head where it has one), ``autoregressive``, ``masked`` (a kept token stays),
            ``remasked``, ``one_step`` or ``regression``. Those without a path's time have
            ``refinement_steps + validation_steps`` evaluations or as many as they need.
        refinement_steps: along the path.
        validation_steps: closing ones.
        target: how tokens are taken from the posterior.
        early_stop_within: end once no prediction moved by more tokens than this; None: never.
    """

    refinement_steps: int = 14
    validation_steps: int = 2
    target: str = "median"
    early_stop_within: int | None = None
    method: Method = "flow"

    def solver(self) -> SolverConfig:
        """Return these settings as the solver's."""
        early = self.early_stop_within is not None
        fields = {key: value for key, value in asdict(self).items() if key != "method"}
        return SolverConfig(**fields, early_stop=early)


def read_content(folder: Path) -> dict[str, Any]:
    """Return ``config.json`` of ``folder``.

    Raises:
        CheckpointError: it is missing or no JSON object.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {folder}: {CONFIG} is missing")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content


def read_config(folder: Path, kind: str, config: type[Config]) -> Config:
    """Return ``config.json`` as ``config``; a key that it does not know is an error.

    Raises:
        CheckpointError: it is missing, malformed or of another kind of checkpoint.
    """
    content = read_content(folder)
    found = content.get("kind", "small")
    if found != kind:
        raise CheckpointError(f"{folder} holds a checkpoint of kind {found!r}, expected {kind!r}")
    try:
        return dacite.from_dict(config, content, dacite.Config(strict=True, cast=[tuple]))
    except (ValueError, TypeError, dacite.DaciteError, CheckpointError) as error:
        raise CheckpointError(f"{Path(folder) / CONFIG}: {error}") from error


def write_config(folder: Path, config: Any, readme: str) -> None:
    """Write ``config.json`` and ``README.md``."""
    text = json.dumps(asdict(config), indent=1)
    (Path(folder) / CONFIG).write_text(text + "\n", encoding="utf-8")
    (Path(folder) / "README.md").write_text(readme, encoding="utf-8")


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yield a folder to write into, which takes the place of ``folder`` when all went well."""
    folder = Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)


def check_hashes(folder: Path, expected: Mapping[str, str], found: Mapping[str, Any]) -> None:
    """Compare tokenizers with what ``config.json`` says of them.

    Raises:
        CheckpointError: one has another hash.
    """
    for name, digest in expected.items():
        tokenizer = found.get(name)
        if tokenizer is None or tokenizer.hash != digest:
            other = "missing" if tokenizer is None else tokenizer.hash[:12]
            raise CheckpointError(
                f"the {name} tokenizer in {folder} has hash {other}, {CONFIG} names "
                f"{digest[:12]}: tokenizers and weights are of different checkpoints"
            )


def folder_hash(folder: Path) -> str:
    """Return the sha256, hex, of all that decides what the policy does (README.md does not)."""
    folder = Path(folder)
    weights = [*folder.rglob("*.safetensors"), *folder.glob("*.index.json")]
    if not weights:
        raise CheckpointError(
            f"{folder / 'model.safetensors'} is missing: copy the checkpoint again"
        )
    tokenizers = [path for path in folder.glob("tokenizer/*") if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted([folder / CONFIG, *weights, *tokenizers]):
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: copy the checkpoint again")
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
