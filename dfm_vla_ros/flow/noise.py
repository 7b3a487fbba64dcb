"""Uniform random numbers for solvers: one generator for the batch, or one for each sample.

With one generator a sample the numbers of a sample depend on its seed and the step alone, so
the same seed gives the same tokens at any batch size and on any device (they are drawn on the
CPU, 16 steps at a time, and copied).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dfm_vla_ros.flow.errors import FlowError

DRAWS = 3  # numbers a position and step: predicted target, jump, destination
BLOCK = 16  # steps drawn at once for per-sample generators

Generators = torch.Generator | Sequence[int] | Sequence[torch.Generator] | None


class Noise:
    """A stream of (DRAWS, B, N) uniforms in (0, 1], one block a step.

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
        self.block: list[Tensor] = []

    def draw(self) -> Tensor:
        """Return the next (DRAWS, B, N) uniforms in (0, 1]."""
        if self.each is None:
            size = (DRAWS, *self.shape)
            # rand gives [0, 1): flip it, for the inverse CDF needs (0, 1].
            return 1.0 - torch.rand(size, generator=self.shared, device=self.device)
        if not self.block:
            size = (BLOCK, DRAWS, self.shape[1])
            rows = [torch.rand(size, generator=generator) for generator in self.each]
            block = 1.0 - torch.stack(rows, 2)
            self.block = list(block.to(self.device).unbind(0))[::-1]
        return self.block.pop()


def _generator(seed: int | torch.Generator) -> torch.Generator:
    if isinstance(seed, torch.Generator):
        return seed
    return torch.Generator().manual_seed(int(seed))
