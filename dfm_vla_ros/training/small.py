"""The small refiner as a `Trainable`: token frames in memory, noise by the objective."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfm_vla_ros.model.checkpoint import Checkpoint
from dfm_vla_ros.model.refiner import Prefix
from dfm_vla_ros.training.augmentation import JointShift, PoseShift
from dfm_vla_ros.training.config import TrainConfig
from dfm_vla_ros.training.frames import Frames, split
from dfm_vla_ros.training.objectives import make_objective
from dfm_vla_ros.training.trainable import Batch, Draws

HELD_BATCH = 256


@dataclass(frozen=True)
class TokenFrames:
    """All F frames as tokens, on the CPU.

    Attributes:
        text: (F, L).
        proprioception: (F, 2 D).
        actions: (F, N), x_1.
        codes: (F, 1 + variants, V, G * G) image codes, clean first; None without images.
        poses: (F, P); None without poses.
    """

    text: Tensor
    proprioception: Tensor
    actions: Tensor
    codes: NDArray[np.int16] | None = None
    poses: Tensor | None = None

    def prefix(self, index: Tensor, version: Tensor | None = None) -> dict[str, Tensor]:
        """Return the parts of the prefixes of ``index`` (B,), of ``version`` (B,), by name."""
        found = {"text": self.text[index], "proprioception": self.proprioception[index]}
        if self.codes is not None:
            which = np.zeros(len(index), int) if version is None else version.numpy()
            found["codes"] = torch.from_numpy(self.codes[index.numpy(), which].astype(np.int64))
        if self.poses is not None:
            found["poses"] = self.poses[index]
        return found


def tokenize(
    frames: Frames, checkpoint: Checkpoint, codes: NDArray[np.int16] | None
) -> TokenFrames:
    """Return ``frames`` in the tokens of ``checkpoint``."""
    words = np.stack([checkpoint.text.encode(sentence) for sentence in frames.sentences])
    joints = [checkpoint.proprioception.encode(q) for q in (frames.positions, frames.commanded)]
    actions = checkpoint.action.encode(frames.targets, frames.commanded)
    poses = checkpoint.poses.encode(frames.poses) if checkpoint.poses is not None else None
    return TokenFrames(
        torch.from_numpy(words[frames.sentence]),
        torch.from_numpy(np.concatenate(joints, axis=1)),
        torch.from_numpy(actions.reshape(len(actions), -1)),
        codes,
        None if poses is None else torch.from_numpy(poses),
    )


class SmallTrainable:
    """A checkpoint's refiner and the frames to train it on; see `Trainable`."""

    def __init__(
        self,
        config: TrainConfig,
        checkpoint: Checkpoint,
        frames: Frames,
        codes: NDArray[np.int16] | None,
        device: torch.device,
    ) -> None:
        """Tokenise the frames and hold some episodes out."""
        self.config, self.checkpoint, self.device = config, checkpoint, device
        self.network: nn.Module = checkpoint.refiner
        if device.type == "cpu":
            # On a CPU the backward pass of plain attention is 1.6x faster than that of SDPA.
            checkpoint.refiner.backbone.set_attn_implementation("eager")
        if config.gradient_checkpointing:
            checkpoint.refiner.backbone.gradient_checkpointing_enable({"use_reentrant": False})
        self.frames = tokenize(frames, checkpoint, codes)
        self.train, self.held = split(frames.episode, config.held_out, config.seed)
        self.objective = make_objective(config, config.action_vocabulary, device)
        deviation_rad = config.augmentation.joint_shift_rad
        self.shift = JointShift(frames, checkpoint, deviation_rad) if deviation_rad > 0 else None
        deviation_m = config.augmentation.pose_shift_m if checkpoint.poses is not None else 0.0
        self.moved = PoseShift(frames, checkpoint, deviation_m) if deviation_m > 0 else None
        self.samples = len(self.train)
        self.fingerprint = self._fingerprint(frames, codes)

    def _fingerprint(self, frames: Frames, codes: NDArray[np.int16] | None) -> str:
        digest = hashlib.sha256(frames.fingerprint.encode())
        if codes is not None:
            digest.update(np.ascontiguousarray(codes).data)
        return digest.hexdigest()

    def matrices(self, name: str, parameter: nn.Parameter) -> bool:
        """Return whether it is a matrix inside the transformer."""
        return parameter.ndim == 2 and name.startswith("backbone.layers")

    def batch(self, draws: Draws) -> Batch:
        """Return prefixes, x_1, times and, noised on a CPU already, x_t."""
        index = self.train[draws.samples(self.samples)]
        objective, variants = self.objective, self.config.augmentation.variants
        version = (draws.uniform("version", ()) * (variants + 1)).long()
        tensors = {**self.frames.prefix(index, version), "target": self.frames.actions[index]}
        if self.shift is not None:
            tensors["proprioception"], tensors["target"] = self.shift.tokens(index, draws)
        if self.moved is not None:
            tensors["poses"] = self.moved.tokens(index, draws)
        self._blank(tensors, draws)
        tensors["times"] = objective.times(draws)
        shape = (2, objective.replicas, tensors["target"].shape[1])
        uniforms = draws.uniform("noise", shape).transpose(0, 1)
        if self.device.type == "cpu":
            noised = objective.corrupt(tensors["target"], tensors["times"], uniforms)
            return Batch({**tensors, "noised": noised}, objective.weight(noised))
        # The thread that feeds a GPU leaves the arithmetic to it.
        weight = self._weight(tensors, uniforms)
        return Batch({**tensors, "uniforms": uniforms.contiguous()}, weight)

    def _weight(self, tensors: Mapping[str, Tensor], uniforms: Tensor) -> float:
        if self.config.objective != "masked":
            return float(uniforms[0].numel())
        path = self.objective.path.to("cpu")
        kappa = path.schedule.kappa(tensors["times"])[..., None]
        return float((1.0 - uniforms[0] > kappa).sum())

    def _blank(self, tensors: dict[str, Tensor], draws: Draws) -> None:
        """Set a share of the image patches to code 0."""
        share = self.config.augmentation.code_dropout
        if share > 0 and "codes" in tensors:
            kept = draws.uniform("blank", tensors["codes"].shape[1:]) >= share
            tensors["codes"] = tensors["codes"] * kept

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the sum of the objective's losses."""
        tensors, objective = batch.tensors, self.objective
        target, times, noised = tensors["target"], tensors["times"], tensors.get("noised")
        if noised is None:
            noised = objective.corrupt(target, times, tensors["uniforms"])
        answer = network(_prefix(tensors), noised, objective.causal)
        return objective.loss(answer, noised, target, times)

    def held_out(self, network: nn.Module) -> dict[str, float]:
        """Return loss and median error [bins] at t = 0 on the held-out episodes."""
        if not len(self.held):
            return {}
        losses, errors, weights = 0.0, 0.0, 0.0
        for number, index in enumerate(self.held.split(HELD_BATCH)):
            draws = Draws(0, number, len(index), range(len(index)))
            tensors = {**self.frames.prefix(index), "target": self.frames.actions[index]}
            tensors = {name: value.to(self.device) for name, value in tensors.items()}
            loss, error, weight = self._held(network, tensors, draws)
            losses, errors, weights = losses + loss, errors + error, weights + weight
        return {"held_loss": losses / weights, "held_error_bins": errors / weights}

    def _held(
        self, network: nn.Module, tensors: dict[str, Tensor], draws: Draws
    ) -> tuple[float, float, float]:
        """Return sums of losses and errors over all tokens, and their number."""
        target, objective = tensors["target"], self.objective
        times = torch.zeros(len(target), 1, device=self.device)
        uniforms = draws.uniform("held", (2, 1, target.shape[1])).transpose(0, 1)
        noised = objective.corrupt(target, times, uniforms.to(self.device))
        answer = network(_prefix(tensors), noised, objective.causal)
        loss = objective.loss(answer, noised, target, times)
        error = (objective.guess(answer)[:, 0] - target).abs().sum()
        return float(loss), float(error), float(target.numel())

    def save(self, folder: Path, weights: Mapping[str, Tensor], readme: str) -> None:
        """Write the checkpoint with ``weights``."""
        saved = copy.copy(self.checkpoint)
        saved.refiner = type(self.checkpoint.refiner)(self.checkpoint.config.refiner)
        saved.refiner.load_state_dict(dict(weights))
        saved.save(folder, readme)


def _prefix(tensors: Mapping[str, Tensor]) -> Prefix:
    return Prefix(
        tensors["text"], tensors.get("codes"), tensors["proprioception"], tensors.get("poses")
    )
