"""What is kept between the evaluations of one chunk: keys, values, outputs of the layers.

All of it lives in the cache that ``prefill`` returns, one a chunk, so that policies in one process
do not meet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from dfm_vla_ros.errors import DfmVlaError

Mode = Literal["off", "prefix", "adaptive"]


class CachingError(DfmVlaError):
    """Settings of the cache that make no sense."""


@dataclass(frozen=True)
class Caching:
    """What to keep; see `Stack.refresh` for the adaptive part.

    Attributes:
        mode: ``off`` computes everything anew each time, ``prefix`` keeps the keys and values of
            the prefix (exact), ``adaptive`` also the outputs of action positions whose values
            hardly changed.
        ratio: share of the action positions that every layer computes anew, in (0, 1].
        threshold: instead of a share, all whose cosine similarity is below this, in (-1, 1].
        refresh_interval: every that many evaluations all positions are computed, >= 1.
    """

    mode: Mode = "prefix"
    ratio: float = 0.25
    threshold: float | None = None
    refresh_interval: int = 5

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.mode not in get_args(Mode):
            raise CachingError(f"mode is {self.mode!r}; choose one of {', '.join(get_args(Mode))}")
        if not 0 < self.ratio <= 1:
            raise CachingError(f"ratio is {self.ratio}; give a share in (0, 1]")
        if self.threshold is not None and not -1 < self.threshold <= 1:
            raise CachingError(f"threshold is {self.threshold}; give a similarity in (-1, 1]")
        if self.refresh_interval < 1:
            raise CachingError(f"refresh_interval is {self.refresh_interval}; give 1 or more")

    def count(self, similarity: Tensor, changed: int) -> int:
        """Return how many positions of (B, n) to compute, at least the ``changed`` ones."""
        if self.threshold is None:
            return max(math.ceil(self.ratio * similarity.shape[1] - 1e-9), changed)
        return int((similarity < self.threshold).sum(1).max())


@dataclass
class Kept:
    """Of every layer, what the action positions gave when they were last computed.

    Attributes:
        values: (B, n, G d) a layer, what similarity is measured against.
        added: (B, n, width) a layer, what it added to its input.
    """

    values: list[Tensor] = field(default_factory=list)
    added: list[Tensor] = field(default_factory=list)


@dataclass
class ChunkCache:
    """The cache of one chunk.

    Attributes:
        caching: the settings.
        validation_from: number of the evaluation from which on all positions are computed.
        keys: (B, G, P + n, d) a layer; the prefix first, then room for the action positions.
        values: the same.
        length: P.
        cosine: (P + n, d) of the rotation of every position.
        sine: (P + n, d), negative in the first half.
        embedded: (B, P, width) of the prefix, kept where it has to be computed anew.
        tail: ids or other inputs at the border that belong to the block of actions.
        tokens: (B, N) of the last evaluation.
        evaluations: done so far.
        filled: action tokens whose successors are in the cache, in autoregressive decoding.
        kept: of the last evaluation, in mode ``adaptive``.
        computed: positions of all layers computed so far, in mode ``adaptive``.
        asked: positions of all layers, reused ones included.
    """

    caching: Caching
    validation_from: int | None
    keys: list[Tensor]
    values: list[Tensor]
    length: int
    cosine: Tensor
    sine: Tensor
    embedded: Tensor | None = None
    tail: Tensor | None = None
    tokens: Tensor | None = None
    evaluations: int = 0
    filled: int = 0
    kept: Kept = field(default_factory=Kept)
    computed: int = 0
    asked: int = 0

    def tally(self, computed: int, asked: int) -> None:
        """Count the positions that a layer computed of those it was asked for."""
        self.computed += computed
        self.asked += asked

    def started(self, caching: Caching, validation_from: int | None) -> ChunkCache:
        """Return this cache, ready for another chunk of the same shape."""
        self.caching, self.validation_from = caching, validation_from
        self.embedded = self.tokens = None
        self.evaluations = self.filled = self.computed = self.asked = 0
        return self

    def border(self, tail: Tensor) -> None:
        """Keep what of the prefix belongs to the block, in the same memory as before."""
        if self.tail is not None and self.tail.shape == tail.shape:
            self.tail.copy_(tail)
        else:
            self.tail = tail

    def due(self, tokens: Tensor) -> Tensor | None:
        """Count an evaluation of ``tokens`` (B, N).

        Returns:
            (B, N) bool, which tokens changed; None where all has to be computed.
        """
        number, before = self.evaluations, self.tokens
        self.evaluations += 1
        self.tokens = tokens.clone()
        validation = self.validation_from is not None and number >= self.validation_from
        full = validation or number % self.caching.refresh_interval == 0
        if before is None or full or before.shape != tokens.shape:
            return None
        return torch.ne(before, tokens)
