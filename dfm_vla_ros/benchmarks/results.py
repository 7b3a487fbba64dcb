"""What the episodes of a benchmark come to: kept as they end, counted by task and suite.

An episode that ended in an error is neither success nor failure: it is counted apart, and the
intervals are of successes in successes + failures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dacite

from dfm_vla_ros.benchmarks import EpisodeId
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.evaluation.statistics import wilson

EPISODES, RESULT = "episodes.jsonl", "result.json"


class ResultsError(DfmVlaError):
    """A folder of other episodes, or a damaged one."""


@dataclass(frozen=True)
class EpisodeResult:
    """How an episode went.

    Attributes:
        suite, task, number: which episode it is.
        success: whether it succeeded; with ``error`` it means nothing.
        steps: of the simulator, without those that settle it.
        seconds: that it took [s].
        error: what broke; empty if it ran to its end.
        details: what else is kept, as JSON holds it.
    """

    suite: str
    task: str
    number: int
    success: bool = False
    steps: int = 0
    seconds: float = 0.0
    error: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def episode(self) -> EpisodeId:
        """Which episode it is."""
        return self.suite, self.task, self.number


class Book:
    """All episodes that have ended, in a file that survives an interruption.

    The first line says what all have in common, each other one holds an episode.
    """

    def __init__(self, folder: Path, common: Mapping[str, Any]) -> None:
        """Open ``folder``, or begin it.

        Args:
            folder: where ``episodes.jsonl`` is or will be.
            common: what must be the same to go on: checkpoint, preset, seed, versions.

        Raises:
            ResultsError: its episodes are of something else than ``common``, or damaged.
        """
        self._path = folder / EPISODES
        self.common: dict[str, Any] = json.loads(json.dumps(dict(common)))
        self._episodes: dict[EpisodeId, EpisodeResult] = {}
        folder.mkdir(parents=True, exist_ok=True)
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        # A last line that was cut short is no episode.
        kept = text.split("\n")[:-1] or [json.dumps(self.common)]
        self._check(kept[0])
        for number, line in enumerate(kept[1:], start=2):
            self._hold(_read(line, f"{self._path}, line {number}"))
        if (whole := "\n".join(kept) + "\n") != text:
            _replace(self._path, whole)

    @property
    def episodes(self) -> list[EpisodeResult]:
        """Those that have ended, the last try of each."""
        return list(self._episodes.values())

    def add(self, episode: EpisodeResult) -> None:
        """Keep an episode."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(episode)) + "\n")
        self._hold(episode)

    def missing(self, episodes: Iterable[EpisodeId], again: bool = False) -> list[EpisodeId]:
        """Return those that have not ended; ``again``: and those that ended in an error."""
        return [
            one
            for one in episodes
            if one not in self._episodes or (again and self._episodes[one].error)
        ]

    @property
    def errors(self) -> int:
        """How many episodes ended in an error."""
        return sum(bool(episode.error) for episode in self.episodes)

    def markdown(self) -> list[str]:
        """Return the rows of all tasks and suites as lines of a table."""
        return markdown(rows(self.episodes))

    def write(self, about: Mapping[str, Any]) -> Path:
        """Write ``result.json``: settings, rows, average, and what broke; return its path.

        Args:
            about: what else decides them: versions, GL backend, hardware.
        """
        found = rows(self.episodes)
        content = {
            "common": self.common,
            **about,
            "rows": [{**asdict(row), "rate": row.rate} for row in found],
            "average": average(found),
            "errors": [asdict(episode) for episode in self.episodes if episode.error],
        }
        return _replace(self._path.with_name(RESULT), json.dumps(content, indent=1) + "\n")

    def _hold(self, episode: EpisodeResult) -> None:
        self._episodes[episode.episode] = episode

    def _check(self, first: str) -> None:
        """Raise ResultsError unless the first line is ``common``."""
        try:
            found = json.loads(first)
        except ValueError as error:
            raise ResultsError(f"{self._path}, line 1: {error}; choose another folder") from error
        if found == self.common:
            return
        keys = sorted({*found, *self.common}) if isinstance(found, dict) else []
        odd = next((key for key in keys if found.get(key) != self.common.get(key)), "")
        has = found.get(odd) if odd else found
        raise ResultsError(
            f"{self._path} holds episodes with {odd or 'settings'} {has!r}, not "
            f"{self.common.get(odd)!r}: choose another folder, or run with the same settings"
        )


def _read(line: str, where: str) -> EpisodeResult:
    try:
        return dacite.from_dict(EpisodeResult, json.loads(line), dacite.Config(strict=True))
    except (ValueError, TypeError, AttributeError, dacite.DaciteError) as error:
        raise ResultsError(f"{where} is no episode: {error}; remove the line") from error


@dataclass(frozen=True)
class SuccessRow:
    """The episodes of a task, or of a suite.

    Attributes:
        suite: its name.
        task: its name; empty for the suite as a whole.
        successes: of the episodes that ran to their end.
        failures: likewise.
        errors: episodes that broke.
        interval: Wilson's 95% of successes / (successes + failures).
        seconds: an episode took, on average [s].
    """

    suite: str
    task: str
    successes: int
    failures: int
    errors: int
    interval: tuple[float, float]
    seconds: float

    @property
    def rate(self) -> float | None:
        """Share of successes; None if no episode ran to its end."""
        ended = self.successes + self.failures
        return self.successes / ended if ended else None


def rows(episodes: Sequence[EpisodeResult]) -> list[SuccessRow]:
    """Return a row of each task, then one of its suite, for all suites, in order of appearance."""
    found = []
    for suite in dict.fromkeys(episode.suite for episode in episodes):
        of_suite = [episode for episode in episodes if episode.suite == suite]
        for task in sorted({episode.task for episode in of_suite}):
            found.append(_row(suite, task, [e for e in of_suite if e.task == task]))
        found.append(_row(suite, "", of_suite))
    return found


def _row(suite: str, task: str, episodes: Sequence[EpisodeResult]) -> SuccessRow:
    ended = [episode for episode in episodes if not episode.error]
    successes = sum(episode.success for episode in ended)
    mean_s = sum(episode.seconds for episode in episodes) / len(episodes)
    interval = wilson(successes, len(ended))
    errors = len(episodes) - len(ended)
    return SuccessRow(suite, task, successes, len(ended) - successes, errors, interval, mean_s)


def average(found: Sequence[SuccessRow]) -> float | None:
    """Return the mean of the suites' rates, as papers give it; None if one has no rate."""
    rates = [row.rate for row in found if not row.task]
    known = [rate for rate in rates if rate is not None]
    return sum(known) / len(known) if known and len(known) == len(rates) else None


def markdown(found: Sequence[SuccessRow]) -> list[str]:
    """Return the rows as lines of a table."""
    lines = ["| suite | task | successes | 95% | errors |", "|---|---|---|---|---|"]
    for row in found:
        low, high = row.interval
        ended = row.successes + row.failures
        share = "" if row.rate is None else f" = {row.rate:.1%}"
        lines.append(
            f"| {row.suite} | {row.task or 'all'} | {row.successes}/{ended}{share} "
            f"| {low:.1%} to {high:.1%} | {row.errors} |"
        )
    return lines


def _replace(path: Path, text: str) -> Path:
    """Write a file that is never there in part, and return its path."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    return partial.replace(path)


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

    def add(self, episode: EpisodeResult) -> str:
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


def _said(episode: EpisodeResult) -> str:
    outcome = "success" if episode.success else "failure"
    return f"{outcome} after {episode.steps} steps, {episode.seconds:.1f} s"
