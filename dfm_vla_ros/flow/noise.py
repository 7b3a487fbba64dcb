"""Random numbers for solvers: one generator for the batch, or one for each sample.

With one generator a sample the numbers of a sample depend on its seed and the step alone, so
the same seed gives the same tokens at any batch size and on any device (they are drawn on the
CPU, 20 steps at a time, and copied).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dfm_vla_ros.flow.errors import FlowError

# Steps drawn at once for per-sample generators: the start and the paper's 16 fit in one.
BLOCK = 20

Generators = torch.Generator | Sequence[int] | Sequence[torch.Generator] | None


class Draw(NamedTuple):
    """The random numbers of one step, each (B, N).

    Attributes:
        target: Uniform in (0, 1], for the predicted target.
        place: Uniform in (0, 1], for the destination of a jump.
        clock: Exponential with mean 1: a rate lambda rings within h if clock < h lambda, which
            has probability 1 - exp(-h lambda).
    """

    target: Tensor
    place: Tensor
    clock: Tensor


class Noise:
    """A stream of `Draw`, one a step.

    Args:
        generators: None for torch's default generator, one generator for the batch (on
            ``device``), or B seeds or B CPU generators, one for each sample.
        shape: (B, N).
        device: Where the numbers go.
    """

    def __init__(
        self, generators: Generators, shape: tuple[int, int], device: torch.device
    ) -> None:
        self.shape, self.device = shape, device
        self.shared = generators if isinstance(generators, torch.Generator) else None
        self.each: list[torch.Generator] | None = None
        if generators is not None and self.shared is None:
            self.each = [_generator(seed) for seed in generators]
            if len(self.each) != shape[0]:
                raise FlowError(f"{len(self.each)} seeds for a batch of {shape[0]}; give one each")
        self.block: list[Draw] = []

    def draw(self) -> Draw:
        """Return the next step's numbers."""
        if self.each is None:
            size = (1, 3, *self.shape)
            numbers = torch.rand(size, generator=self.shared, device=self.device)
            return _draws(numbers)[0]
        if not self.block:
            size = (BLOCK, 3, self.shape[1])
            rows = [torch.rand(size, generator=generator) for generator in self.each]
            self.block = _draws(torch.stack(rows, 2).to(self.device))[::-1]
        return self.block.pop()


def _draws(numbers: Tensor) -> list[Draw]:
    """Return steps from (steps, 3, B, N) numbers in [0, 1)."""
    # The inverse CDF needs (0, 1], and so does the logarithm.
    numbers = 1.0 - numbers
    numbers[:, 2].log_().neg_()
    return list(map(Draw, *(kind.unbind(0) for kind in numbers.unbind(1))))


def _generator(seed: int | torch.Generator) -> torch.Generator:
    if isinstance(seed, torch.Generator):
        return seed
    return torch.Generator().manual_seed(int(seed))
