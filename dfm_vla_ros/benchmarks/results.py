"""What the episodes of a benchmark come to: kept as they end, counted by task and suite.

An episode that ended in an error is neither success nor failure: it is counted apart, and the
intervals are of successes in successes + failures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from dfm_vla_ros.benchmarks import EpisodeId, EpisodeOutcome
from dfm_vla_ros.evaluation.statistics import wilson
from dfm_vla_ros.files import Book, BookError, write_json

EPISODES, RESULT = "episodes.jsonl", "result.json"
Rows = list[dict[str, Any]]


class EpisodeBook(Book):
    """All episodes that have ended; survives an interruption."""

    def __init__(self, folder: Path, common: Mapping[str, Any]) -> None:
        """Open the book in ``folder``, or begin it."""
        super().__init__(folder / EPISODES, common)
        self._episodes: dict[EpisodeId, EpisodeOutcome] = {}
        for number, row in enumerate(self.rows, start=2):
            try:
                self._hold(EpisodeOutcome(**row))
            except TypeError as error:
                raise BookError(
                    f"{self.path}, line {number} is no episode: {error}; remove the line"
                ) from error

    @property
    def episodes(self) -> list[EpisodeOutcome]:
        """Those that have ended, the last try of each."""
        return list(self._episodes.values())

    @property
    def errors(self) -> list[EpisodeOutcome]:
        """Those that ended in an error."""
        return [episode for episode in self.episodes if episode.error]

    def keep(self, episode: EpisodeOutcome) -> None:
        """Add an episode."""
        self.add(asdict(episode))
        self._hold(episode)

    def missing(self, episodes: Iterable[EpisodeId], again: bool = False) -> list[EpisodeId]:
        """Return those that have not ended; ``again``: and those that ended in an error."""
        ended = {one.episode for one in self.episodes if not (again and one.error)}
        return [episode for episode in episodes if episode not in ended]

    def write(self, about: Mapping[str, Any]) -> Path:
        """Write ``result.json``: settings, rows, average, and what broke; return its path.

        Args:
            about: what else decides them: versions, GL backend, hardware.
        """
        found = success_rows(self.episodes)
        content = {
            "common": self.common,
            **about,
            "rows": found,
            "average": average(found),
            "errors": [asdict(episode) for episode in self.errors],
        }
        path = self.path.with_name(RESULT)
        write_json(path, content)
        return path

    def _hold(self, episode: EpisodeOutcome) -> None:
        self._episodes[episode.episode] = episode


def success_rows(episodes: Sequence[EpisodeOutcome]) -> Rows:
    """Return a row of each task, then one of its suite, for all suites, in order of appearance.

    Returns:
        ``suite``, ``task`` (empty for the suite as a whole), ``successes``, ``failures``,
        ``errors``, ``interval`` (Wilson's 95%), ``seconds`` (mean of an episode) and ``rate`` of
        successes, None if no episode ran to its end.
    """
    found = []
    for suite in dict.fromkeys(episode.suite for episode in episodes):
        of_suite = [episode for episode in episodes if episode.suite == suite]
        for task in sorted({episode.task for episode in of_suite}):
            found.append(_row(suite, task, [e for e in of_suite if e.task == task]))
        found.append(_row(suite, "", of_suite))
    return found


def _row(suite: str, task: str, episodes: Sequence[EpisodeOutcome]) -> dict[str, Any]:
    ended = [episode for episode in episodes if not episode.error]
    successes = sum(episode.success for episode in ended)
    return {
        "suite": suite,
        "task": task,
        "successes": successes,
        "failures": len(ended) - successes,
        "errors": len(episodes) - len(ended),
        "interval": wilson(successes, len(ended)),
        "seconds": sum(episode.seconds for episode in episodes) / len(episodes),
        "rate": successes / len(ended) if ended else None,
    }


def average(rows: Rows) -> float | None:
    """Return the mean of the suites' rates, as papers give it; None if one has no rate."""
    rates = [row["rate"] for row in rows if not row["task"]]
    return None if not rates or None in rates else sum(rates) / len(rates)


def markdown(rows: Rows) -> list[str]:
    """Return the rows as lines of a table."""
    lines = ["| suite | task | successes | 95% | errors |", "|---|---|---|---|---|"]
    for row in rows:
        low, high = row["interval"]
        share = "" if row["rate"] is None else f" = {row['rate']:.1%}"
        lines.append(
            f"| {row['suite']} | {row['task'] or 'all'} "
            f"| {row['successes']}/{row['successes'] + row['failures']}{share} "
            f"| {low:.1%} to {high:.1%} | {row['errors']} |"
        )
    return lines


class EpisodeProgress:
    """Counts the episodes of this run; the rate is theirs, not that of an earlier one."""

    def __init__(
        self, total: int, done_before: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin now: of ``total`` episodes an earlier run did ``done_before``; ``clock`` in s."""
        self._total, self._before = total, done_before
        self._clock, self._began_s = clock, clock()
        self._count = self._successes = self._errors = 0

    def add(self, episode: EpisodeOutcome) -> str:
        """Count an episode and return a line about it, the run so far and the time left."""
        self._count += 1
        self._errors += bool(episode.error)
        self._successes += episode.success and not episode.error
        done = self._before + self._count
        left_s = (self._total - done) * 3600.0 / self.per_hour()
        outcome = "success" if episode.success else "failure"
        said = f"{outcome} after {episode.steps} steps, {episode.seconds:.1f} s"
        return (
            f"[{done}/{self._total}, {timedelta(seconds=round(left_s))} left, "
            f"{self._successes} successes, {self._errors} errors] "
            f"{episode.suite} {episode.task} {episode.number}: "
            f"{f'error: {episode.error}' if episode.error else said}"
        )

    def per_hour(self) -> float:
        """Return episodes an hour of this run."""
        return 3600.0 * self._count / max(1e-9, self._clock() - self._began_s)
