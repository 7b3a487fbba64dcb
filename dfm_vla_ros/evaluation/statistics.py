"""Success rates with their uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import Any

from dfm_vla_ros.errors import DfmVlaError

Z95 = 1.959963984540054


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a binomial proportion (Wilson 1927, eq. 1).

    Raises:
        DfmVlaError: unless 0 <= successes <= trials.
    """
    if not 0 <= successes <= trials:
        raise DfmVlaError(
            f"{successes} successes in {trials} trials: give 0 <= successes <= trials"
        )
    if trials == 0:
        return 0.0, 1.0
    p, z2 = successes / trials, Z95**2
    centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 / (1 + z2 / trials) * sqrt(p * (1 - p) / trials + z2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


VARIATION = "variation"
"""The part of the setting that changes a layout: results that differ in it have no pairs."""


class ComparisonError(DfmVlaError):
    """Two results that have no episode in common, or that are not results."""


@dataclass(frozen=True)
class Paired:
    """How two runs, A and B, ended on the same episodes.

    Attributes:
        task: name of the task.
        both, only_a, only_b, neither: successes.
    """

    task: str
    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def episodes(self) -> int:
        """How many."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def rates(self) -> tuple[float, float]:
        """Of A and of B."""
        n = self.episodes
        return (self.both + self.only_a) / n, (self.both + self.only_b) / n

    @property
    def p_value(self) -> float:
        """Two-sided exact McNemar: as unlike or more, were A and B equally good.

        Of the n episodes that only one did, the number that A did is binomial(n, 1/2)
        (McNemar 1947, Psychometrika 12).
        """
        n, least = self.only_a + self.only_b, min(self.only_a, self.only_b)
        return min(1.0, 2 * sum(comb(n, k) for k in range(least + 1)) / 2**n)

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the rate of B minus that of A (Newcombe 1998, Stat. Med. 17, method 10).

        The bounds of Wilson's intervals of both rates, joined with their correlation.
        """
        (p, q), n = self.rates, self.episodes
        (p_low, p_high) = wilson(self.both + self.only_a, n)
        (q_low, q_high) = wilson(self.both + self.only_b, n)
        phi = self._correlation()
        down = _joined(q - q_low, p_high - p, phi)
        up = _joined(q_high - q, p - p_low, phi)
        return q - p - down, q - p + up

    def _correlation(self) -> float:
        """Return phi of the table, with Newcombe's correction for continuity."""
        a, b, c, d = self.both, self.only_a, self.only_b, self.neither
        margins = (a + b) * (c + d) * (a + c) * (b + d)
        excess = a * d - b * c
        if excess > 0:
            excess = max(excess - self.episodes / 2, 0.0)
        return excess / sqrt(margins) if margins else 0.0


def _joined(one: float, other: float, phi: float) -> float:
    return sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979, Scand. J. Statist. 6)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def paired(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Paired]:
    """Return a comparison for each task of two results of ``dfm-vla eval --json``.

    Only episodes that ended in both, of equal task and seed, count.

    Raises:
        ComparisonError: there is none, or the layouts were drawn from different variations.
    """
    try:
        settings = [result.get("setting", {}) for result in (a, b)]
        ended = [_ended(result) for result in (a, b)]
    except (KeyError, TypeError, AttributeError) as error:
        raise ComparisonError(
            f"not results of an evaluation ({error!r}): give what dfm-vla eval --json wrote"
        ) from error
    one, other = (setting.get(VARIATION, "off") for setting in settings)
    if one != other:
        raise ComparisonError(
            f"{VARIATION} is {one} in one and {other} in the other: equal seeds are different "
            "layouts; evaluate both alike"
        )
    pairs = [paired_episodes(task, a, ended[1].get(task, {})) for task, a in ended[0].items()]
    found = [pair for pair in pairs if pair.episodes]
    if not found:
        raise ComparisonError(
            "no task and seed is in both results: evaluate both with the same --task and --seed"
        )
    return found


def _ended(result: Mapping[str, Any]) -> dict[str, dict[int, bool]]:
    """Return task -> seed -> success."""
    return {
        row["task"]: {episode["seed"]: episode["success"] for episode in row["results"]}
        for row in result["tasks"]
    }


def paired_episodes(task: str, a: Mapping[Any, bool], b: Mapping[Any, bool]) -> Paired:
    """Return a comparison of the episodes that ``a`` and ``b`` (seed -> success) both have."""
    seeds = a.keys() & b.keys()
    counts = [
        sum((a[seed], b[seed]) == ends for seed in seeds)
        for ends in ((True, True), (True, False), (False, True), (False, False))
    ]
    return Paired(task, *counts)
