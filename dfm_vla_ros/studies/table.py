"""A study's rows as a table: rates, intervals, paired comparison with the first row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dfm_vla_ros.evaluation.robustness import Outcome
from dfm_vla_ros.evaluation.runner import EpisodeResult
from dfm_vla_ros.evaluation.statistics import Paired, holm, paired_episodes, wilson
from dfm_vla_ros.studies.timing import Timing

Key = tuple[int, str, int]
"""Training seed, task, seed of the episode."""


@dataclass(frozen=True)
class RowResult:
    """What one row came to.

    Attributes:
        name: of the row.
        outcomes: of its episodes.
        timing: of a chunk; None: not measured.
    """

    name: str
    outcomes: Mapping[Key, Outcome]
    timing: Timing | None = None

    @property
    def ended(self) -> dict[Key, bool]:
        """Episodes that ended without an error -> success."""
        return {key: found.success for key, found in self.results()}

    def results(self) -> Iterable[tuple[Key, EpisodeResult]]:
        """Yield the episodes that ended without an error."""
        for key, found in self.outcomes.items():
            if not isinstance(found, str):
                yield key, found

    @property
    def errors(self) -> int:
        """Episodes that ended in one."""
        return len(self.outcomes) - len(self.ended)

    def counts(self, part: int) -> dict[Any, tuple[int, int]]:
        """Return (successes, episodes) by training seed (part 0) or task (part 1)."""
        found: dict[Any, tuple[int, int]] = {}
        for key, success in self.ended.items():
            done, all_ = found.get(key[part], (0, 0))
            found[key[part]] = done + success, all_ + 1
        return dict(sorted(found.items()))

    @property
    def median_s(self) -> float | None:
        """Median time of the successes [s]."""
        times = [found.seconds for _, found in self.results() if found.success]
        return float(np.median(times)) if times else None


def compared(rows: Sequence[RowResult]) -> list[tuple[Paired, float] | None]:
    """Return each row's pairs with the first and its p-value after Holm; None without pairs."""
    first, *others = rows
    pairs = [paired_episodes(row.name, first.ended, row.ended) for row in others]
    known = [pair for pair in pairs if pair.episodes]
    corrected = iter(holm([pair.p_value for pair in known]))
    return [None, *((pair, next(corrected)) if pair.episodes else None for pair in pairs)]


def markdown(rows: Sequence[RowResult]) -> list[str]:
    """Return the table; the last column is missing where nothing was timed."""
    timed = any(row.timing for row in rows)
    tasks = len({key[1] for row in rows for key in row.outcomes}) > 1
    titles = ["variant", "successes", "95%", "by training seed"]
    titles += ["by task"] if tasks else []
    titles += ["median", "only first, only this", "p (Holm)", "evaluations"]
    titles += ["ms a chunk"] if timed else []
    lines = [titles, ["---"] * len(titles)]
    for row, pair in zip(rows, compared(rows), strict=True):
        lines.append(_cells(row, pair, tasks, timed))
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _cells(
    row: RowResult, pair: tuple[Paired, float] | None, tasks: bool, timed: bool
) -> list[str]:
    done, count = sum(row.ended.values()), len(row.ended)
    low, high = wilson(done, count)
    errors = f", {row.errors} errors" if row.errors else ""
    by_seed = row.counts(0)
    cells = [row.name, f"{done}/{count}{errors}", f"{100 * low:.0f} to {100 * high:.0f}"]
    cells.append(", ".join(str(won) for won, _ in by_seed.values()) if len(by_seed) > 1 else "")
    if tasks:
        cells.append(", ".join(f"{task} {won}/{n}" for task, (won, n) in row.counts(1).items()))
    cells.append("" if row.median_s is None else f"{row.median_s:.1f} s")
    cells += ["", ""] if pair is None else _pair_cells(*pair)
    timing = row.timing
    cells.append("" if timing is None else str(timing.evaluations))
    if timed:
        cells.append("" if timing is None else _milliseconds(timing))
    return cells


def _pair_cells(pair: Paired, p_holm: float) -> list[str]:
    return [f"{pair.only_a}, {pair.only_b}", f"{p_holm:.2g}"]


def _milliseconds(timing: Timing) -> str:
    return f"{timing.median_ms:.1f} ({timing.low_ms:.1f} to {timing.high_ms:.1f})"


def as_json(rows: Sequence[RowResult]) -> list[dict[str, Any]]:
    """Return the rows with every episode."""
    return [
        {
            "row": row.name,
            "successes": sum(row.ended.values()),
            "failures": len(row.ended) - sum(row.ended.values()),
            "errors": row.errors,
            "interval": list(wilson(sum(row.ended.values()), len(row.ended))),
            "by_training_seed": row.counts(0),
            "by_task": row.counts(1),
            "p": None if pair is None else pair[0].p_value,
            "p_holm": None if pair is None else pair[1],
            "timing": asdict(row.timing) if row.timing else None,
            "episodes": [
                {"training_seed": key[0], "task": key[1], "seed": key[2], "success": success}
                for key, success in row.ended.items()
            ],
        }
        for row, pair in zip(rows, compared(rows), strict=True)
    ]
