"""The checkpoint folder: weights, configuration and tokenizers that belong together."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import dacite
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.flow.distances import OrderedDistance
from dfm_vla_ros.flow.paths import MetricPath
from dfm_vla_ros.flow.schedules import MetricSchedule
from dfm_vla_ros.model.fsq import FsqConfig, FsqTokenizer
from dfm_vla_ros.model.refiner import Refiner, RefinerConfig
from dfm_vla_ros.tokens.action import ActionTokenizer
from dfm_vla_ros.tokens.proprioception import ProprioceptionTokenizer
from dfm_vla_ros.tokens.text import TextTokenizer

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


class CheckpointError(DfmVlaError):
    """A checkpoint folder that is incomplete, damaged or not of one piece."""


@dataclass(frozen=True)
class PathConfig:
    """The metric path that the weights were trained on: d = scale |i - j| / (K - 1)."""

    scale: float = 32.0
    c: float = 3.0
    alpha: float = 1.0

    def build(self, vocabulary_size: int) -> MetricPath:
        """Return the path over K = ``vocabulary_size`` ordered tokens."""
        values = torch.linspace(0, 1, vocabulary_size)
        distance = OrderedDistance(values, scale=self.scale)
        return MetricPath(distance, MetricSchedule(self.c, self.alpha))


@dataclass(frozen=True)
class DecoderConfig:
    """How a chunk is refined unless the caller says otherwise."""

    refinement_steps: int = 14
    validation_steps: int = 2
    target: str = "median"


@dataclass(frozen=True)
class CheckpointConfig:
    """All of ``config.json``.

    Attributes:
        cameras: views in the order of the sequence.
        tasks: task name -> the sentence of its demonstrations.
        execute_steps: steps of a chunk that are executed before the next observation.
    """

    refiner: RefinerConfig
    image_tokenizer: FsqConfig
    cameras: tuple[str, ...]
    tasks: dict[str, str]
    execute_steps: int = 4
    path: PathConfig = field(default_factory=PathConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)


@dataclass
class Checkpoint:
    """Everything that must agree between training and robot."""

    config: CheckpointConfig
    refiner: Refiner
    image_tokenizer: FsqTokenizer
    action: ActionTokenizer
    proprioception: ProprioceptionTokenizer
    text: TextTokenizer

    def save(self, folder: Path, readme: str) -> None:
        """Write the folder whole: it appears under its name only when complete."""
        folder = Path(folder)
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        for tokenizer in (self.action, self.proprioception, self.text):
            tokenizer.save(partial)
        text = json.dumps(asdict(self.config), indent=1)
        (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
        (partial / "README.md").write_text(readme, encoding="utf-8")
        save_file(_gather(self.refiner, self.image_tokenizer), partial / WEIGHTS)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Checkpoint:
        """Read a folder.

        Raises:
            CheckpointError: a file is missing or damaged, or a weight is missing, superfluous or
                of another shape than the configuration says.
            TokenizerError: a tokenizer file is missing or malformed.
        """
        folder = Path(folder)
        config = _read_config(folder)
        refiner = Refiner(config.refiner)
        image_tokenizer = FsqTokenizer(config.image_tokenizer)
        tensors = _read_weights(folder / WEIGHTS)
        _scatter(tensors, {"refiner": refiner, "image_tokenizer": image_tokenizer}, folder)
        checkpoint = cls(
            config,
            refiner.to(device).eval().requires_grad_(False),
            image_tokenizer.to(device).eval().requires_grad_(False),
            ActionTokenizer.load(folder),
            ProprioceptionTokenizer.load(folder),
            TextTokenizer.load(folder),
        )
        checkpoint.check()
        return checkpoint

    def check(self) -> None:
        """Raise CheckpointError unless the tokenizers fit the network."""
        sizes = self.config.refiner
        for what, found, expected in (
            ("action horizon", self.action.horizon, sizes.horizon),
            ("action joints", len(self.action.joint_names), sizes.action_dim),
            ("action vocabulary", self.action.vocabulary_size, sizes.action_vocabulary),
            ("text vocabulary", self.text.vocabulary_size, sizes.text_vocabulary),
            ("text length", self.text.length, sizes.text_length),
            ("cameras", len(self.config.cameras), sizes.views),
            ("image grid", self.config.image_tokenizer.grid, sizes.grid),
        ):
            if found != expected:
                raise CheckpointError(
                    f"{what} is {found}, the network expects {expected}: "
                    "tokenizers and weights are of different checkpoints"
                )


def folder_hash(folder: Path) -> str:
    """Return the sha256, hex, of all that decides what the policy does (README.md does not)."""
    folder = Path(folder)
    digest = hashlib.sha256()
    for path in sorted([folder / CONFIG, folder / WEIGHTS, *folder.glob("tokenizer/*.json")]):
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: copy the checkpoint again")
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _read_config(folder: Path) -> CheckpointConfig:
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {folder}: {CONFIG} is missing")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        strict = dacite.Config(strict=True, cast=[tuple])
        return dacite.from_dict(CheckpointConfig, content, strict)
    except (ValueError, TypeError, dacite.DaciteError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: {error}: copy the checkpoint again") from error


def _gather(refiner: nn.Module, image_tokenizer: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.contiguous()
        for name, module in (("refiner", refiner), ("image_tokenizer", image_tokenizer))
        for key, value in module.state_dict().items()
    }


def _scatter(tensors: dict[str, Tensor], modules: Mapping[str, nn.Module], folder: Path) -> None:
    expected = {f"{n}.{k}": v for n, m in modules.items() for k, v in m.state_dict().items()}
    for key in sorted(expected.keys() ^ tensors.keys()):
        state = "missing from" if key in expected else "not expected in"
        raise CheckpointError(f"weight {key} is {state} {folder / WEIGHTS}")
    for key, value in expected.items():
        if tensors[key].shape != value.shape:
            raise CheckpointError(
                f"weight {key} has shape {tuple(tensors[key].shape)} in {folder / WEIGHTS}, "
                f"{CONFIG} makes it {tuple(value.shape)}"
            )
    with torch.no_grad():
        for key, value in expected.items():
            value.copy_(tensors[key])
