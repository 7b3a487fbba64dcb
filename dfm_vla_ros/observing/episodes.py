"""Notices that the twin was reset."""

from __future__ import annotations


class EpisodeWatch:
    """Compares consecutive TaskStatus messages; the first one is no reset."""

    def __init__(self) -> None:
        """Know no episode yet."""
        self._episode: tuple[str, int] | None = None
        self._elapsed_s = 0.0

    def is_new(self, task: str, seed: int, elapsed_s: float) -> bool:
        """Return whether this status belongs to another episode than the one before."""
        before, elapsed_before = self._episode, self._elapsed_s
        self._episode, self._elapsed_s = (task, seed), elapsed_s
        if before is None:
            return False
        return before != (task, seed) or elapsed_s < elapsed_before
