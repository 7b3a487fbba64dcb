"""The one judgement of age that sources, joint states, executor and node share."""

from __future__ import annotations

import pytest

from dfm_vla_ros.robot.freshness import Freshness, Moment


@pytest.mark.parametrize(
    ("stamp_s", "came_s", "now", "expected"),
    [
        (10.0, 100.0, Moment(10.5, 100.5), ""),
        (10.0, 100.0, Moment(10.7, 100.1), "0.70 s old, allowed is 0.5 s"),
        (10.0, 100.0, Moment(10.0, 102.0), "2.00 s old, allowed is 0.5 s"),
        (10.5, 100.0, Moment(10.0, 100.0), ""),
        (11.0, 100.0, Moment(10.0, 100.0), "stamped 1.00 s ahead of this clock: set both clocks"),
        (float("nan"), 100.0, Moment(10.0, 100.0), "nan s old, allowed is 0.5 s"),
    ],
)
def test_that_the_older_of_stamp_and_arrival_counts(
    stamp_s: float, came_s: float, now: Moment, expected: str
) -> None:
    fresh = Freshness(0.5)
    fresh.renew(stamp_s, came_s)
    assert fresh.problem(now) == expected


def test_that_a_clock_that_is_not_given_does_not_count() -> None:
    fresh = Freshness(0.5)
    assert fresh.age_s(Moment(0.0, 1.0)) == float("inf")
    fresh.renew(came_s=1.0)
    assert fresh.age_s(Moment(0.0, 1.2)) == pytest.approx(0.2)
    fresh.clear()
    assert fresh.problem(Moment(0.0, 1.2)) == "inf s old, allowed is 0.5 s"
