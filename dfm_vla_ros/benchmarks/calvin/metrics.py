"""CALVIN's figures: success of 1 to 5 tasks in a row, average length, and each task's share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dfm_vla_ros.benchmarks.calvin.sequences import LENGTH, Chain
from dfm_vla_ros.benchmarks.results import Episode
from dfm_vla_ros.evaluation.statistics import Z95, wilson

IN_A_ROW = "in_a_row"
SUITE, TASK = "CALVIN", "chain"


def metrics(episodes: Sequence[Episode], chains: Sequence[Chain]) -> dict[str, Any]:
    """Return the figures of the chains that ran to their end.

    Args:
        episodes: ``number`` is the row of the chain.
        chains: the list they are of.

    Returns:
        ``chains``, ``in_a_row`` (of 1 to 5 tasks: rate and Wilson's 95%), ``average_length`` with
        its standard 95% interval, ``tasks`` (done, tried, rate).
    """
    ended = [episode for episode in episodes if not episode.error]
    lengths = [int(episode.details[IN_A_ROW]) for episode in ended]
    return {
        "chains": len(lengths),
        "in_a_row": [_share(lengths, least) for least in range(1, LENGTH + 1)],
        "average_length": _mean(lengths),
        "tasks": _tasks(ended, chains),
    }


def _share(lengths: Sequence[int], least: int) -> dict[str, Any]:
    count = sum(length >= least for length in lengths)
    rate = count / len(lengths) if lengths else None
    return {"tasks": least, "rate": rate, "interval": wilson(count, len(lengths))}


def _mean(lengths: Sequence[int]) -> dict[str, Any] | None:
    if not lengths:
        return None
    mean = sum(lengths) / len(lengths)
    squares = sum((length - mean) ** 2 for length in lengths)
    half = Z95 * math.sqrt(squares / max(1, len(lengths) - 1) / len(lengths))
    return {"mean": mean, "interval": (max(0.0, mean - half), min(float(LENGTH), mean + half))}


def _tasks(episodes: Sequence[Episode], chains: Sequence[Chain]) -> dict[str, dict[str, Any]]:
    done: dict[str, int] = {}
    tried: dict[str, int] = {}
    for episode in episodes:
        length = int(episode.details[IN_A_ROW])
        for place, task in enumerate(chains[episode.number].tasks[: length + 1]):
            tried[task] = tried.get(task, 0) + 1
            done[task] = done.get(task, 0) + (place < length)
    return {
        task: {
            "done": done[task],
            "tried": tried[task],
            "rate": done[task] / tried[task],
            "interval": wilson(done[task], tried[task]),
        }
        for task in sorted(tried)
    }


def table(found: dict[str, Any]) -> str:
    """Return the figures as lines of a table, as papers have them."""
    mean = found["average_length"]
    if mean is None:
        return "no chain ran to its end"
    rates = " | ".join(f"{100 * share['rate']:.1f}" for share in found["in_a_row"])
    low, high = mean["interval"]
    return (
        "| chains | 1 | 2 | 3 | 4 | 5 | average length |\n|---|---|---|---|---|---|---|\n"
        f"| {found['chains']} | {rates} | {mean['mean']:.2f} ({low:.2f} to {high:.2f}) |"
    )
