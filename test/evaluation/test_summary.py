"""Counts of a task's episodes."""

from __future__ import annotations

import pytest

from dfm_vla_ros.evaluation.runner import OTHER, SUCCESS, TIMEOUT, EpisodeResult, line, summarise


def episode(seed: int, ended: str, seconds: float, **others: object) -> EpisodeResult:
    done = ended == SUCCESS
    return EpisodeResult("t", seed, done, float(done), seconds, 9, 0, 0.01, ended=ended, **others)


def test_that_timeouts_errors_and_other_tasks_are_counted_apart() -> None:
    row = summarise(
        "t",
        [
            episode(3, SUCCESS, 8.0, moved=("left",)),
            episode(1, SUCCESS, 6.0, moved=("left",)),
            episode(2, TIMEOUT, 20.0),
            episode(5, OTHER, 7.0, moved=("left", "right"), other_progress=1.0),
        ],
        {4: "no image"},
        60.0,
    )
    assert (row["episodes"], row["successes"], row["failures"]) == (5, 2, 2)
    assert (row["timeouts"], row["others"], row["errors"]) == (1, 1, 1)
    assert row["median_success_s"] == 7.0
    assert row["arms_moved"] == {"left": 2, "none": 1, "left+right": 1}
    assert [found["seed"] for found in row["results"]] == [1, 2, 3, 5]
    assert line(row) == (
        "t: 2/4 = 50% [15%, 85%], median 7.0 s, 1 timeouts, 1 errors, 1 did the other task "
        "(mean progress 1.00); arms that moved: left 2, left+right 1, none 1"
    )


def test_that_nothing_but_errors_is_no_rate() -> None:
    row = summarise("t", [], {1: "broken"}, 1.0)
    assert row["interval"] == [0.0, 1.0]
    assert row["median_success_s"] is None
    assert line(row) == "t: 0/0 = 0% [0%, 100%], 0 timeouts, 1 errors; arms that moved: "
    assert row["mean_progress"] == pytest.approx(None)
