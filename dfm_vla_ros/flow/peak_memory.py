"""Peak memory of a block of torch code, on any device, from the storages that it makes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all storages touched inside the block that are alive at once.

    A CPU has no allocator statistics; this sees every operation's results instead.

    Attributes:
        peak: The most bytes alive so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operation and count its results."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.alive:
            return
        self.alive[key] = storage.nbytes()
        weakref.finalize(storage, self.alive.pop, key, None)
        self.peak = max(self.peak, sum(self.alive.values()))


def peak_in_logits(call: Callable[[], object], shape: tuple[int, int], vocabulary: int) -> float:
    """Return the peak of ``call`` in units of one fp32 tensor of shape (B, N, K)."""
    with PeakMemory() as memory:
        call()
    return memory.peak / (4 * shape[0] * shape[1] * vocabulary)
