"""Keeps simulated time beside real time."""

from __future__ import annotations


class Pace:
    """Says how many ticks are due; slips when late instead of running after lost time."""

    def __init__(self, interval_s: float, first_s: float, largest_lag_s: float = 0.1) -> None:
        """Let a tick be due every ``interval_s``, the first at ``first_s`` of a steady clock [s].

        A tick may run half an interval early, so that a timer of the same interval never finds
        none and then two. More than ``largest_lag_s`` behind, the lost time is given up.
        """
        self._interval_s = interval_s
        self._largest_lag_s = largest_lag_s
        self._next_s = first_s
        self.slipped_s = 0.0
        """Real time lost so far [s]."""

    def due(self, now_s: float) -> int:
        """Return the number of ticks to run now."""
        lag_s = now_s - self._next_s
        if lag_s > self._largest_lag_s:
            self.slipped_s += lag_s
            self._next_s = now_s
        count = 0
        while self._next_s <= now_s + self._interval_s / 2:
            self._next_s += self._interval_s
            count += 1
        return count
