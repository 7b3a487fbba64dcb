"""The small checkpoint: its own embeddings of words, image codes and joints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfm_vla_ros.model.folder import (
    CONFIG,
    DecoderConfig,
    PathConfig,
    check_hashes,
    folder_hash,
    read_config,
    write_config,
    written_whole,
)
from dfm_vla_ros.model.fsq import FsqConfig, FsqTokenizer
from dfm_vla_ros.model.observation import check_observation, square
from dfm_vla_ros.model.refiner import Prefix, Refiner, RefinerConfig
from dfm_vla_ros.model.weights import WEIGHTS, CheckpointError, WeightFiles, save_weights
from dfm_vla_ros.tokens.action import ActionTokenizer
from dfm_vla_ros.tokens.proprioception import ProprioceptionTokenizer
from dfm_vla_ros.tokens.text import TextTokenizer

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointError",
    "DecoderConfig",
    "PathConfig",
    "folder_hash",
]


@dataclass(frozen=True)
class CheckpointConfig:
    """All of ``config.json``.

    Attributes:
        cameras: views in the order of the sequence.
        tasks: task name -> the sentence of its demonstrations.
        execute_steps: steps of a chunk that are executed before the next observation.
        hashes: tokenizer -> its hash; empty in old checkpoints.
        kind: of the checkpoint.
    """

    refiner: RefinerConfig
    image_tokenizer: FsqConfig
    cameras: tuple[str, ...]
    tasks: dict[str, str]
    execute_steps: int = 4
    path: PathConfig = field(default_factory=PathConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    hashes: dict[str, str] = field(default_factory=dict, compare=False)
    kind: str = "small"


@dataclass
class Checkpoint:
    """Everything that must agree between training and robot."""

    config: CheckpointConfig
    refiner: Refiner
    image_tokenizer: FsqTokenizer
    action: ActionTokenizer
    proprioception: ProprioceptionTokenizer
    text: TextTokenizer

    @property
    def tokenizers(self) -> dict[str, ActionTokenizer | ProprioceptionTokenizer | TextTokenizer]:
        """The tokenizers by name."""
        return {
            "action": self.action,
            "proprioception": self.proprioception,
            "text": self.text,
        }

    @property
    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """Camera -> (height, width) that the network sees [px]; others are cut and resized."""
        size = self.config.image_tokenizer.image_size
        return {camera: (size, size) for camera in self.config.cameras}

    def save(self, folder: Path, readme: str) -> None:
        """Write the folder whole: it appears under its name only when complete."""
        hashes = {name: tokenizer.hash for name, tokenizer in self.tokenizers.items()}
        with written_whole(folder) as partial:
            for tokenizer in self.tokenizers.values():
                tokenizer.save(partial)
            write_config(partial, replace(self.config, hashes=hashes), readme)
            save_weights(partial, _gather(self.refiner, self.image_tokenizer))

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Checkpoint:
        """Read a folder.

        Raises:
            CheckpointError: a file is missing or damaged, or a weight is missing, superfluous or
                of another shape than the configuration says.
            TokenizerError: a tokenizer file is missing or malformed.
        """
        folder = Path(folder)
        config = read_config(folder, "small", CheckpointConfig)
        refiner = Refiner(config.refiner)
        image_tokenizer = FsqTokenizer(config.image_tokenizer)
        modules = {"refiner": refiner, "image_tokenizer": image_tokenizer}
        _scatter(WeightFiles(folder), modules)
        checkpoint = cls(
            config,
            refiner.to(device).eval().requires_grad_(False),
            image_tokenizer.to(device).eval().requires_grad_(False),
            ActionTokenizer.load(folder),
            ProprioceptionTokenizer.load(folder),
            TextTokenizer.load(folder),
        )
        checkpoint.check()
        check_hashes(folder, config.hashes, checkpoint.tokenizers)
        return checkpoint

    def encode_prefix(
        self,
        instruction: str,
        images: Mapping[str, NDArray[np.uint8]],
        positions: NDArray[np.float64],
        commanded: NDArray[np.float64],
    ) -> Prefix:
        """Return one moment as tokens, for ``refiner.prefill``.

        Args:
            instruction: the language goal.
            images: camera -> (H, W, 3) uint8 RGB, any size.
            positions: (D,) measured joints [rad], grippers [m].
            commanded: (D,) commanded joints.

        Raises:
            ObservationError: a camera is missing, or an image or joint array is malformed.
            TokenizerError: no word of the instruction is known, or a joint is not finite.
        """
        cameras, joints = self.config.cameras, len(self.action.joint_names)
        check_observation(cameras, joints, images, positions, commanded)
        size, device = self.config.image_tokenizer.image_size, self.refiner.position.device
        views = np.stack([square(images[camera], size) for camera in cameras])
        codes = self.image_tokenizer.encode(torch.from_numpy(views).to(device))[None]
        state = [self.proprioception.encode(joints) for joints in (positions, commanded)]
        text, state = (
            torch.from_numpy(tokens)[None].to(device)
            for tokens in (self.text.encode(instruction), np.concatenate(state))
        )
        return Prefix(text, codes, state)

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


def _gather(refiner: nn.Module, image_tokenizer: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value
        for name, module in (("refiner", refiner), ("image_tokenizer", image_tokenizer))
        for key, value in module.state_dict().items()
    }


def _scatter(files: WeightFiles, modules: Mapping[str, nn.Module]) -> None:
    expected = {f"{n}.{k}": v for n, m in modules.items() for k, v in m.state_dict().items()}
    files.check({key: value.shape for key, value in expected.items()})
    with torch.no_grad():
        for key, value in expected.items():
            value.copy_(files[key])
