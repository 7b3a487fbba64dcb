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
    WEIGHTS,
    CheckpointError,
    DecoderConfig,
    PathConfig,
    WeightFiles,
    check_hashes,
    folder_hash,
    read_config,
    save_weights,
    write_config,
    written_whole,
)
from dfm_vla_ros.model.refiner import Prefix, Refiner, RefinerConfig
from dfm_vla_ros.model.vision import (
    FsqConfig,
    FsqTokenizer,
    check_observation,
    check_poses,
    square,
)
from dfm_vla_ros.tokens.action import ActionTokenizer
from dfm_vla_ros.tokens.bins import PoseTokenizer, ProprioceptionTokenizer
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

Tokenizer = ActionTokenizer | ProprioceptionTokenizer | TextTokenizer | PoseTokenizer


@dataclass(frozen=True)
class CheckpointConfig:
    """All of ``config.json``.

    Attributes:
        cameras: views in the order of the sequence.
        tasks: task name -> the sentence of its demonstrations.
        execute_steps: steps of a chunk that are executed before the next observation.
        hashes: tokenizer -> its hash; empty in old checkpoints.
        kind: of the checkpoint.
        poses: names of the numbers that tell where the objects are, in the order of the
            sequence; for policies of the twin. Without cameras there is no image tokenizer.
    """

    refiner: RefinerConfig
    image_tokenizer: FsqConfig | None
    cameras: tuple[str, ...]
    tasks: dict[str, str]
    execute_steps: int = 4
    path: PathConfig = field(default_factory=PathConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    hashes: dict[str, str] = field(default_factory=dict, compare=False)
    kind: str = "small"
    poses: tuple[str, ...] = ()


@dataclass
class Checkpoint:
    """Everything that must agree between training and robot."""

    config: CheckpointConfig
    refiner: Refiner
    image_tokenizer: FsqTokenizer | None
    action: ActionTokenizer
    proprioception: ProprioceptionTokenizer
    text: TextTokenizer
    poses: PoseTokenizer | None = None

    @property
    def pose_names(self) -> tuple[str, ...]:
        """Names of the numbers that say where the objects are; empty: the policy sees none."""
        return self.config.poses

    @property
    def grouping(self) -> int:
        """Action tokens at one position of the network."""
        return self.config.refiner.grouping

    @property
    def outputs(self) -> str:
        """What the network gives; see `RefinerConfig`."""
        return self.config.refiner.outputs

    @property
    def tokenizers(self) -> dict[str, Tokenizer]:
        """The tokenizers by name."""
        found = {"action": self.action, "proprioception": self.proprioception, "text": self.text}
        return found if self.poses is None else {**found, "poses": self.poses}

    @property
    def image_sizes(self) -> dict[str, tuple[int, int]]:
        """Camera -> (height, width) that the network sees [px]; others are cut and resized."""
        vision = self.config.image_tokenizer
        if vision is None:
            return {}
        return dict.fromkeys(self.config.cameras, (vision.image_size, vision.image_size))

    def save(self, folder: Path, readme: str) -> None:
        """Write the folder whole: it appears under its name only when complete."""
        hashes = {name: tokenizer.hash for name, tokenizer in self.tokenizers.items()}
        with written_whole(folder) as partial:
            for tokenizer in self.tokenizers.values():
                tokenizer.save(partial)
            write_config(partial, replace(self.config, hashes=hashes), readme)
            save_weights(partial, _gather(self._modules))

    @property
    def _modules(self) -> dict[str, nn.Module]:
        """The networks by name."""
        vision = self.image_tokenizer
        return {
            "refiner": self.refiner,
            **({} if vision is None else {"image_tokenizer": vision}),
        }

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
        vision = config.image_tokenizer
        checkpoint = cls(
            config,
            Refiner(config.refiner),
            None if vision is None else FsqTokenizer(vision),
            ActionTokenizer.load(folder),
            ProprioceptionTokenizer.load(folder),
            TextTokenizer.load(folder),
            PoseTokenizer.load(folder) if config.poses else None,
        )
        _scatter(WeightFiles(folder), checkpoint._modules)
        for module in checkpoint._modules.values():
            module.to(device).eval().requires_grad_(False)
        checkpoint.check()
        check_hashes(folder, config.hashes, checkpoint.tokenizers)
        return checkpoint

    def encode_prefix(
        self,
        instruction: str,
        images: Mapping[str, NDArray[np.uint8]],
        positions: NDArray[np.float64],
        commanded: NDArray[np.float64],
        poses: NDArray[np.float64] | None = None,
    ) -> Prefix:
        """Return one moment as tokens, for ``refiner.prefill``.

        Args:
            instruction: the language goal.
            images: camera -> (H, W, 3) uint8 RGB, any size.
            positions: (D,) measured joints [rad], grippers [m].
            commanded: (D,) commanded joints.
            poses: (P,) where the objects are, if the checkpoint has poses; else not read.

        Raises:
            ObservationError: a camera is missing, or an image, a joint array or the poses are
                malformed.
            TokenizerError: no word of the instruction is known, or a number is not finite.
        """
        cameras, joints = self.config.cameras, len(self.action.joint_names)
        check_observation(cameras, joints, images, positions, commanded)
        state = [self.proprioception.encode(joints) for joints in (positions, commanded)]
        text, state = self._row(self.text.encode(instruction)), self._row(np.concatenate(state))
        return Prefix(text, self._codes(images), state, self._pose_tokens(poses))

    def _row(self, tokens: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(tokens)[None].to(self.refiner.position.device)

    def _codes(self, images: Mapping[str, NDArray[np.uint8]]) -> Tensor | None:
        """Return (1, V, G * G)."""
        if self.image_tokenizer is None:
            return None
        size = self.image_tokenizer.config.image_size
        views = np.stack([square(images[camera], size) for camera in self.config.cameras])
        views = torch.from_numpy(views).to(self.refiner.position.device)
        return self.image_tokenizer.encode(views)[None]

    def _pose_tokens(self, poses: NDArray[np.float64] | None) -> Tensor | None:
        """Return (1, P)."""
        if self.poses is None:
            return None
        check_poses(self.config.poses, poses)
        return self._row(self.poses.encode(poses))

    def check(self) -> None:
        """Raise CheckpointError unless the tokenizers fit the network."""
        sizes = self.config.refiner
        self._check_senses()
        for what, found, expected in (
            ("action horizon", self.action.horizon, sizes.horizon),
            ("action joints", len(self.action.joint_names), sizes.action_dim),
            ("action vocabulary", self.action.vocabulary_size, sizes.action_vocabulary),
            ("text vocabulary", self.text.vocabulary_size, sizes.text_vocabulary),
            ("text length", self.text.length, sizes.text_length),
            ("cameras", len(self.config.cameras), sizes.views),
            ("poses", len(self.config.poses), sizes.poses),
        ):
            if found != expected:
                raise _misfit(what, found, expected)

    def _check_senses(self) -> None:
        """Raise CheckpointError unless images and poses have their tokenizers."""
        vision, sizes = self.config.image_tokenizer, self.config.refiner
        if (vision is None) != (not self.config.cameras):
            raise CheckpointError("a checkpoint has an image tokenizer if, and only if, cameras")
        names = () if self.poses is None else self.poses.names
        checks = [("names of poses", names, self.config.poses)]
        if vision is not None:
            checks.append(("image grid", vision.grid, sizes.grid))
        if self.poses is not None:
            checks.append(("pose vocabulary", self.poses.vocabulary_size, sizes.pose_vocabulary))
        for what, found, expected in checks:
            if found != expected:
                raise _misfit(what, found, expected)


def _misfit(what: str, found: object, expected: object) -> CheckpointError:
    return CheckpointError(
        f"{what} is {found}, the network expects {expected}: "
        "tokenizers and weights are of different checkpoints"
    )


def _gather(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


def _scatter(files: WeightFiles, modules: Mapping[str, nn.Module]) -> None:
    expected = {f"{n}.{k}": v for n, m in modules.items() for k, v in m.state_dict().items()}
    files.check({key: value.shape for key, value in expected.items()})
    with torch.no_grad():
        for key, value in expected.items():
            value.copy_(files[key])
