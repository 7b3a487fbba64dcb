"""Randomness as a pure function of (seed, step): resumed or spread over processes, it is the same.

Everything is drawn for the whole batch; a process takes its rows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def stream(*parts: object) -> int:
    """Return a seed in 0..2**63 - 1 that belongs to ``parts`` alone."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


@lru_cache(maxsize=4)
def shuffled(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the order (count,) in which an epoch takes the samples."""
    return np.random.default_rng(stream(seed, "order", epoch)).permutation(count)


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step, or of one process's part of it.

    Attributes:
        seed: of the run.
        step: from 1.
        batch: samples of the whole step, over all processes.
        rows: those of this part.
    """

    seed: int
    step: int
    batch: int
    rows: range

    def samples(self, count: int) -> Tensor:
        """Return (rows,) indices below ``count``: epoch after epoch, each in its own order."""
        first = (self.step - 1) * self.batch
        places = [divmod(first + row, count) for row in self.rows]
        chosen = [shuffled(self.seed, epoch, count)[place] for epoch, place in places]
        return torch.as_tensor(np.array(chosen, dtype=np.int64))

    def uniform(self, purpose: str, shape: Sequence[int]) -> Tensor:
        """Return (rows, *shape) numbers in [0, 1), another stream for each ``purpose``."""
        generator = torch.Generator().manual_seed(stream(self.seed, self.step, purpose))
        numbers = torch.rand((self.batch, *shape), generator=generator)
        return numbers[self.rows.start : self.rows.stop]

    def normal(self, purpose: str, shape: Sequence[int]) -> Tensor:
        """Return (rows, *shape) numbers of the standard normal distribution, fp64."""
        uniform = self.uniform(purpose, shape).double()
        # 2 u - 1 may be -1, whose inverse error function is infinite.
        return torch.erfinv((2 * uniform - 1).clamp(min=-1 + 1e-6)) * math.sqrt(2)


def parts(
    seed: int, step: int, batch: int, process: int, processes: int, accumulate: int
) -> list[Draws]:
    """Return what ``process`` of ``processes`` does of a step, in ``accumulate`` parts."""
    size = batch // (processes * accumulate)
    first = process * size * accumulate
    starts = range(first, first + size * accumulate, size)
    return [Draws(seed, step, batch, range(start, start + size)) for start in starts]
