"""What the loop trains: a network, how a batch becomes a loss, and what is saved of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from dfm_vla_ros.training.draws import Draws


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


class Trainable(Protocol):
    """One kind of model with its data.

    Attributes:
        network: what is trained. Its parameters with ``requires_grad`` are saved in the state,
            averaged and handed to ``save`` by their names; all others must never change.
        samples: number of training frames.
        fingerprint: of the data and of all that is frozen: a run goes on only with the same.
    """

    network: nn.Module
    samples: int
    fingerprint: str

    def matrices(self, name: str, parameter: nn.Parameter) -> bool:
        """Return whether Muon may train the parameter of the network."""
        ...

    def batch(self, draws: Draws) -> Batch:
        """Return the samples of ``draws``: a function of it alone.

        Called in a thread of its own, one step ahead of `loss`.
        """
        ...

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the SUM of the losses of ``batch``, a scalar on the network's device.

        Args:
            network: `network` as wrapped for several processes; call it, do not reach into it.
            batch: from `batch`, its tensors now on the network's device.
        """
        ...

    def held_out(self, network: nn.Module) -> dict[str, float]:
        """Return ``held_loss`` and whatever else was measured on held-out data; may be empty.

        The network has its averaged weights and is in evaluation mode, without gradients; every
        process calls this.
        """
        ...

    def save(self, folder: Path, weights: Mapping[str, Tensor], readme: str) -> None:
        """Write a checkpoint that ``Policy.load`` takes.

        Called in the first process only, so nothing here may wait for the others.

        Args:
            folder: does not exist yet.
            weights: all trained parameters, whole, averaged, on the CPU.
            readme: text of README.md.
        """
        ...


Evaluate = Callable[[Path, int], Mapping[str, float]]
"""(checkpoint folder, step) -> figures by name, ``success`` among them; see commands/train.py."""
