"""What both refiners share: their stack of layers, and decoding from left to right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from dfm_vla_ros.flow.errors import FlowError
from dfm_vla_ros.model.caching import ChunkCache
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
