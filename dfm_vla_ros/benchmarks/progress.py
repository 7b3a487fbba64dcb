"""How far a run of episodes is, and how long it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable

from dfm_vla_ros.benchmarks.results import Episode


class Progress:
    """Counts the episodes of this run; the rate is theirs, not that of an earlier one."""

    def __init__(
        self, total: int, done_before: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin now.

        Args:
            total: episodes when all is done.
            done_before: of these that an earlier run did.
            clock: [s].
        """
        self._total, self._before = total, done_before
        self._clock, self._began_s = clock, clock()
        self._count = self._successes = self._errors = 0

    def add(self, episode: Episode) -> str:
        """Count an episode and return a line about it, the run so far and the time left."""
        self._count += 1
        self._errors += bool(episode.error)
        self._successes += episode.success and not episode.error
        left_s = self.left_s()
        said = "error: " + episode.error if episode.error else _said(episode)
        return (
            f"[{self._before + self._count}/{self._total}, {hours(left_s)} left, "
            f"{self._successes} successes, {self._errors} errors] "
            f"{episode.suite} {episode.task} {episode.number}: {said}"
        )

    def left_s(self) -> float:
        """Return the time that the rest takes at this run's rate [s]."""
        left = self._total - self._before - self._count
        return left * (self._clock() - self._began_s) / max(1, self._count)

    def per_hour(self) -> float:
        """Return episodes an hour of this run."""
        return 3600.0 * self._count / max(1e-9, self._clock() - self._began_s)


def hours(seconds: float) -> str:
    """Return a duration as ``h:mm:ss``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _said(episode: Episode) -> str:
    outcome = "success" if episode.success else "failure"
    return f"{outcome} after {episode.steps} steps, {episode.seconds:.1f} s"
