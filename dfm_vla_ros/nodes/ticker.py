"""A steady rate on busy cores."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LARGEST_LAG_S = 0.1
"""Ticks that are later than this are given up, not sent all at once."""


class Ticker:
    """Calls back at a steady rate from a thread of its own, so that planning delays nothing.

    Deadlines are absolute: a late tick does not delay those after it, and ticks missed within
    ``LARGEST_LAG_S`` are made up for.
    """

    def __init__(self, rate_hz: float, tick: Callable[[], None]) -> None:
        """Prepare to call ``tick``; it must not raise."""
        self._period_s, self._tick = 1.0 / rate_hz, tick
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self.slipped = 0
        """Ticks given up so far."""

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def stop(self) -> None:
        """End; no tick runs once this returns."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._ended.is_set():
            self._tick()
            due_s += self._period_s
            ahead_s = due_s - time.monotonic()
            if ahead_s > 0:
                time.sleep(ahead_s)
            elif ahead_s < -LARGEST_LAG_S:
                lost = int(-ahead_s / self._period_s)
                self.slipped += lost
                due_s += lost * self._period_s
