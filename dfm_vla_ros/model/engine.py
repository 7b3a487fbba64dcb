"""Chunk after chunk through one network: memory that stays, and CUDA graphs where there is a GPU.

A refinement step of a large model is some five hundred small kernels; launched one by one they
take longer than the weights take to be read. A graph of them is launched at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.model.caching import Caching, ChunkCache
from dfm_vla_ros.model.stack import Stack

Extend = Callable[[Tensor, Tensor, ChunkCache], Tensor]


class Incremental(nn.Module):
    """A network whose ``backbone`` can be walked by a `Stack`, made when it is first needed."""

    _stack: Stack | None = None

    @property
    def layers(self) -> nn.Module:
        """The module that has the layers."""
        return self.backbone

    @property
    def stack(self) -> Stack:
        """The layers for inference."""
        if self._stack is None:
            # The joined weights must be good for training too.
            with torch.inference_mode(False), torch.no_grad():
                self._stack = Stack(self.layers)
        return self._stack

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._stack = None  # weights are about to move
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stack": None}

    @staticmethod
    def check_group(first: int, count: int, grouping: int) -> None:
        """Raise FlowError unless the tokens are those of one position."""
        if count != grouping or first % grouping:
            raise FlowError(
                f"tokens {first}..{first + count - 1} are asked for; this network predicts "
                f"{grouping} at a time: decode autoregressively in groups of {grouping}"
            )

    @staticmethod
    def first_new(first: int, count: int, cache: ChunkCache) -> int:
        """Return the first token whose position is not in the cache yet, before it is extended."""
        begin = min(cache.filled, first)
        cache.filled = first + count
        return begin

    def extended(
        self, embedded: Tensor, begin: int, cache: ChunkCache, extend: Extend | None = None
    ) -> Tensor:
        """Return (B, n, width) of new positions ``begin`` + 0..n - 1 after the prefix.

        Args:
            embedded: (B, n, width).
            begin: first position after the prefix.
            cache: of all before.
            extend: instead of the stack's own.
        """
        if cache.embedded is not None:
            raise FlowError("autoregressive decoding needs the prefix's cache; its mode is 'off'")
        positions = cache.length + begin + torch.arange(embedded.shape[1], device=embedded.device)
        return (extend or self.stack.extend)(embedded, positions, cache)


WARM_UP = 3
"""Runs before a capture: libraries set themselves up in the first ones."""


class Graph:
    """A function of fixed shapes, captured once and replayed."""

    def __init__(self, function: Callable[..., Tensor], *inputs: Tensor) -> None:
        """Capture ``function`` of copies of ``inputs``, on their GPU."""
        self._inputs = [value.clone() for value in inputs]
        with torch.cuda.device(inputs[0].device):
            self._capture(function)

    def _capture(self, function: Callable[..., Tensor]) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return the output for ``inputs``; it is overwritten by the next call."""
        for held, value in zip(self._inputs, inputs, strict=True):
            held.copy_(value)
        self._graph.replay()
        return self._output


class Engine:
    """The network of one policy; not to be shared by threads.

    Attributes:
        caching: what the evaluations of a chunk keep.
    """

    def __init__(
        self, refiner: Incremental, caching: Caching | None = None, graphs: bool = True
    ) -> None:
        """Use ``refiner``.

        Args:
            refiner: small or unified.
            caching: default: the prefix.
            graphs: whether to capture the refinement step on a GPU. The adaptive cache decides
                anew each time what to compute and is not captured.
        """
        self._refiner, self.caching = refiner, caching or Caching()
        self._graphs = graphs
        self._cache: ChunkCache | None = None
        self._steps: dict[str, Graph] = {}

    @property
    def computed_share(self) -> float:
        """Share of the action positions that the last chunk computed, 1 without reuse."""
        cache = self._cache
        return cache.computed / cache.asked if cache is not None and cache.asked else 1.0

    def prefill(self, prefix: Any, validation_from: int | None = None) -> ChunkCache:
        """Return the cache of a new chunk; that of the last one is overwritten."""
        before = self._cache
        self._cache = self._refiner.prefill(prefix, self.caching, validation_from, before)
        if self._cache is not before:
            self._steps.clear()  # they write into the memory of the old one
        return self._cache

    def denoise(self, tokens: Tensor, cache: ChunkCache) -> Tensor:
        """Return logits (B, N, K) of x_1 for ``tokens`` (B, N).

        Args:
            tokens: (B, N).
            cache: the last that `prefill` returned.
        """
        if not (self._graphs and tokens.is_cuda and cache.caching.mode == "prefix"):
            return self._refiner.denoise(tokens, cache)
        key = f"denoise {tuple(tokens.shape)} {cache.embedded is None}"
        if key not in self._steps:
            self._steps[key] = Graph(lambda held: self._refiner.denoise(held, cache), tokens)
        return self._steps[key](tokens)

    def next_logits(self, tokens: Tensor, first: int, count: int, cache: ChunkCache) -> Tensor:
        """Return logits (B, count, K) of the next tokens; see `flow.baselines`."""
        if not (self._graphs and tokens.is_cuda):
            return self._refiner.next_logits(tokens, first, count, cache)
        return self._refiner.next_logits(tokens, first, count, cache, self._extended)

    def _extended(self, embedded: Tensor, positions: Tensor, cache: ChunkCache) -> Tensor:
        key = f"extend {tuple(embedded.shape)}"
        if key not in self._steps:
            self._steps[key] = Graph(
                lambda hidden, places: self._refiner.stack.extend(hidden, places, cache),
                embedded,
                positions,
            )
        return self._steps[key](embedded, positions)
