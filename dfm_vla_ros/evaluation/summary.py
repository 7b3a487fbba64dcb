"""What the episodes of one task come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dfm_vla_ros.evaluation.runner import OTHER, TIMEOUT, EpisodeResult
from dfm_vla_ros.evaluation.statistics import wilson


def summarise(
    task: str,
    results: Sequence[EpisodeResult],
    messages: Mapping[int, str],
    seconds: float | None = None,
) -> dict[str, Any]:
    """Return a task's row of the result, for JSON.

    ``failures`` are ``timeouts`` and ``others`` (another task done instead, where its sentence
    was said); episodes that ended in an error are counted in ``errors`` alone, and the interval
    is of ``successes`` in ``successes + failures``.

    Args:
        task: its name.
        results: of the episodes that ended, in any order.
        messages: seed -> error of the others.
        seconds: that all took [s]; None: not known.
    """
    successes = sum(result.success for result in results)
    ends = Counter(result.ended for result in results)
    times = [result.seconds for result in results if result.success]
    progress = [r.other_progress for r in results if r.other_progress is not None]
    return {
        "task": task,
        "episodes": len(results) + len(messages),
        "successes": successes,
        "failures": len(results) - successes,
        "timeouts": ends[TIMEOUT],
        "others": ends[OTHER],
        "errors": len(messages),
        "messages": dict(messages),
        "interval": list(wilson(successes, len(results))),
        "median_success_s": float(np.median(times)) if times else None,
        "mean_progress": _mean([result.progress for result in results]),
        "mean_other_progress": _mean(progress),
        "arms_moved": dict(Counter("+".join(result.moved) or "none" for result in results)),
        "seconds": seconds,
        "results": [asdict(r) for r in sorted(results, key=lambda r: r.seed)],
    }


def line(row: Mapping[str, Any]) -> str:
    """Return a task's row of the result as one line."""
    done, ended = row["successes"], row["successes"] + row["failures"]
    low, high = row["interval"]
    parts = [
        f"{done}/{ended} = {done / max(1, ended):.0%} [{low:.0%}, {high:.0%}]",
        f"{row['timeouts']} timeouts",
        f"{row['errors']} errors",
    ]
    if row["median_success_s"] is not None:
        parts.insert(1, f"median {row['median_success_s']:.1f} s")
    if row["mean_other_progress"] is not None:
        parts.append(
            f"{row['others']} did the other task (mean progress {row['mean_other_progress']:.2f})"
        )
    moved = ", ".join(f"{arms} {count}" for arms, count in sorted(row["arms_moved"].items()))
    return f"{row['task']}: {', '.join(parts)}; arms that moved: {moved}"


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
