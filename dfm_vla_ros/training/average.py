"""The moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dfm_vla_ros.training.shards import local, placed, trained, whole


class Average:
    """Follows the trained parameters of a network; in shards where they are."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin at the network's weights; ``decay`` 0 keeps none."""
        self._decay = decay
        self._parameters = dict(trained(network))
        self._values: dict[str, Tensor] = {}
        if decay > 0:
            self._values = {k: local(p.detach()).clone() for k, p in self._parameters.items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Come nearer to the weights after ``step``; faster in the first steps."""
        if not self._values:
            return
        decay = min(self._decay, (step + 1) / (step + 10))
        now = [local(self._parameters[name].detach()) for name in self._values]
        torch._foreach_lerp_(list(self._values.values()), now, 1 - decay)

    @contextmanager
    def worn(self) -> Iterator[None]:
        """Let the network have the averaged weights meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self._values.items():
            weight = local(self._parameters[name].detach())
            kept = weight.clone()
            weight.copy_(value)
            value.copy_(kept)

    def whole(self) -> dict[str, Tensor]:
        """Return name -> averaged weights, on the CPU; the weights themselves without average."""
        with self.worn():
            return {name: whole(parameter) for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Take back what `whole` gave."""
        for name, value in self._values.items():
            value.copy_(local(placed(values[name], self._parameters[name].detach())))
