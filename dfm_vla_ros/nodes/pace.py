"""Keeps simulated time beside real time."""

from __future__ import annotations


class Pace:
    """Says how many ticks are due; slips when late instead of running after lost time."""

    def __init__(
        self, tick_s: float, factor: float, now_s: float, largest_lag_s: float = 0.1
    ) -> None:
        """Start at ``now_s`` of a steady clock [s]; ``factor`` times as fast as real time."""
        self._interval_s = tick_s / factor
        self._largest_lag_s = largest_lag_s
        self._next_s = now_s
        self.slipped_s = 0.0
        """Real time lost so far [s]."""

    def due(self, now_s: float) -> int:
        """Return the number of ticks to run now."""
        lag_s = now_s - self._next_s
        if lag_s > self._largest_lag_s:
            self.slipped_s += lag_s
            self._next_s = now_s
        count = 0
        while self._next_s <= now_s:
            self._next_s += self._interval_s
            count += 1
        return count
