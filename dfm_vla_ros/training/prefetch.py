"""Batches made one step ahead in a thread, while the network works on the last one."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """``make(step)`` of step after step.

    Attributes:
        waited_s: how long the callers of `take` have waited altogether [s].
    """

    def __init__(self, make: Callable[[int], Item], last: int) -> None:
        """Make items up to step ``last``."""
        self._make, self._last = make, last
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: tuple[int, Future[Item]] | None = None
        self.waited_s = 0.0

    def take(self, step: int) -> Item:
        """Return the item of ``step`` and begin with the next; errors of ``make`` come here."""
        if self._ahead is None or self._ahead[0] != step:
            self._ahead = step, self._pool.submit(self._make, step)
        began = time.perf_counter()
        item = self._ahead[1].result()
        self.waited_s += time.perf_counter() - began
        self._ahead = None
        if step < self._last:
            self._ahead = step + 1, self._pool.submit(self._make, step + 1)
        return item

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)
