"""What the loop trains: a network, how a batch becomes a loss, and what is saved of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfm_vla_ros.training.config import TrainConfig
from dfm_vla_ros.training.frames import split
from dfm_vla_ros.training.objectives import Draws, make_objective


@dataclass(frozen=True)
class Batch:
    """Samples of one process.

    Attributes:
        tensors: by name, on the CPU; what is saved if the loss is not finite.
        weight: what the sum of the losses is divided by, such as the number of tokens that
            count. Over processes and parts of a batch, sums and weights are added up first.
    """

    tensors: dict[str, Tensor]
    weight: float

    def on(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on ``device``."""
        if device.type == "cpu":
            return self
        moved = {name: t.to(device, non_blocking=True) for name, t in self.tensors.items()}
        return Batch(moved, self.weight)


class Trainable(ABC):
    """One kind of model with its data, and how its batches become losses.

    Attributes:
        network: what is trained. Its parameters with ``requires_grad`` are saved in the state,
            averaged and handed to ``save`` by their names; all others must never change.
        samples: number of training frames.
        fingerprint: of the data and of all that is frozen: a run goes on only with the same.
        objective: gives noise and loss.
    """

    network: nn.Module
    fingerprint: str
    held_batch = 256
    held_noise = "held"

    def __init__(
        self, config: TrainConfig, vocabulary: int, episode: NDArray, device: torch.device
    ) -> None:
        """Hold some episodes out.

        Args:
            config: of the run.
            vocabulary: number of action tokens, K.
            episode: (F,) number of the episode of each frame.
            device: that losses are computed on.
        """
        self.config, self.device = config, device
        self.objective = make_objective(config, vocabulary, device)
        self.train, self.held = split(episode, config.held_out, config.seed)
        self.samples = len(self.train)

    @abstractmethod
    def matrices(self, name: str, parameter: nn.Parameter) -> bool:
        """Return whether Muon may train the parameter of the network."""

    @abstractmethod
    def tensors(self, index: Tensor, draws: Draws | None) -> dict[str, Tensor]:
        """Return ``target`` (B, N), which is x_1, and all that the network sees beside x_t.

        Args:
            index: (B,) frames.
            draws: for augmentation; None: without.
        """

    @abstractmethod
    def answer(self, network: nn.Module, tensors: Mapping[str, Tensor], noised: Tensor) -> Tensor:
        """Return what the network says (B, R, N, C) of x_t (B, R, N)."""

    @abstractmethod
    def save(self, folder: Path, weights: Mapping[str, Tensor], readme: str) -> None:
        """Write a checkpoint that ``Policy.load`` takes.

        Called in the first process only, so nothing here may wait for the others.

        Args:
            folder: does not exist yet.
            weights: all trained parameters, whole, averaged, on the CPU.
            readme: text of README.md.
        """

    def batch(self, draws: Draws) -> Batch:
        """Return the samples of ``draws``: a function of it alone.

        Called in a thread of its own, one step ahead of `loss`.
        """
        tensors = self.tensors(self.train[draws.samples(self.samples)], draws)
        return self._with_noise(tensors, self.objective.times(draws), draws, "noise")

    def _with_noise(
        self, tensors: dict[str, Tensor], times: Tensor, draws: Draws, purpose: str
    ) -> Batch:
        """Add times (B, R) and, on a CPU, x_t; the thread that feeds a GPU leaves that to it."""
        target, objective = tensors["target"], self.objective
        uniforms = draws.uniform(purpose, (2, times.shape[1], target.shape[1])).transpose(0, 1)
        tensors = {**tensors, "times": times}
        if self.device.type == "cpu":
            noised = objective.corrupt(target, times, uniforms)
            return Batch({**tensors, "noised": noised}, objective.weight(noised))
        weight = objective.expected_weight(times, uniforms)
        return Batch({**tensors, "uniforms": uniforms.contiguous()}, weight)

    def _noised(self, tensors: Mapping[str, Tensor]) -> Tensor:
        if "noised" in tensors:
            return tensors["noised"]
        return self.objective.corrupt(tensors["target"], tensors["times"], tensors["uniforms"])

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the SUM of the losses of ``batch``, a scalar on the network's device.

        Args:
            network: `network` as wrapped for several processes; call it, do not reach into it.
            batch: from `batch`, its tensors now on the network's device.
        """
        tensors, noised = batch.tensors, self._noised(batch.tensors)
        answer = self.answer(network, tensors, noised)
        return self.objective.loss(answer, noised, tensors["target"], tensors["times"])

    def held_out(self, network: nn.Module) -> dict[str, float]:
        """Return loss and median error [bins] at t = 0 on the held-out episodes; {} without.

        The network has its averaged weights and is in evaluation mode, without gradients; every
        process calls this.
        """
        if not len(self.held):
            return {}
        loss = error = weight = 0.0
        for number, index in enumerate(self.held.split(self.held_batch)):
            draws = Draws(0, number, len(index), range(len(index)))
            times = torch.zeros(len(index), 1)
            batch = self._with_noise(self.tensors(index, None), times, draws, self.held_noise)
            tensors = batch.on(self.device).tensors
            noised, target = self._noised(tensors), tensors["target"]
            answer = self.answer(network, tensors, noised)
            loss += float(self.objective.loss(answer, noised, target, tensors["times"]))
            error += float((self.objective.guess(answer)[:, 0] - target).abs().sum())
            weight += float(target.numel())
        return {"held_loss": loss / weight, "held_error_bins": error / weight}
