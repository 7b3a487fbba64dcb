"""Mirrored random walks: every token is bound to its neighbours and to one at the far end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dfm_vla_ros.errors import FlowError


@dataclass(frozen=True)
class MirroredWalk:
    """Walks of steps -1, 0, +1 over K levels whose second half mirrors the first.

    ``x_(N-1-i) = x_i``: the first and the last token agree across the whole sequence, which no
    decoder can get right one position at a time.

    Args:
        length: N, even.
        levels: K.
        shuffled: Whether token ids are the levels in a fixed random order; then numeric
            order means nothing and a distance on it cannot help.
    """

    length: int = 32
    levels: int = 8
    shuffled: bool = False

    def __post_init__(self) -> None:
        if self.length < 2 or self.length % 2 or self.levels < 3:
            raise FlowError(
                f"length {self.length}, levels {self.levels}; give an even length >= 2, 3 levels"
            )

    @property
    def ids(self) -> Tensor:
        """The token id of each level, (K,)."""
        if not self.shuffled:
            return torch.arange(self.levels)
        return torch.randperm(self.levels, generator=torch.Generator().manual_seed(1))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return (count, N) tokens."""
        half = torch.empty(count, self.length // 2, dtype=torch.int64)
        half[:, 0] = torch.randint(self.levels, (count,), generator=generator)
        steps = torch.randint(-1, 2, half.shape, generator=generator)
        for i in range(1, half.shape[1]):
            half[:, i] = (half[:, i - 1] + steps[:, i]).clamp(0, self.levels - 1)
        return self.ids[torch.cat([half, half.flip(1)], 1)]

    def valid(self, tokens: Tensor) -> Tensor:
        """Return (B,) bool, true where every constraint holds."""
        levels = self.ids.argsort()[tokens]
        mirrored = (levels == levels.flip(1)).all(1)
        return mirrored & (levels.diff(dim=1).abs() <= 1).all(1)


def spread(tokens: Tensor, vocabulary: int) -> float:
    """Return the mean share of positions in which two different samples differ, (B, N) -> [0, 1].

    NaN for fewer than two samples.
    """
    count = len(tokens)
    if count < 2:
        return float("nan")
    shares = torch.nn.functional.one_hot(tokens, vocabulary).double().mean(0)
    # Two draws without replacement, hence count / (count - 1).
    return float((1.0 - shares.square().sum(-1)).mean()) * count / (count - 1)
