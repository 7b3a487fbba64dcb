"""The executor's time never jumps, whatever the clock does; ticks and stamps are exact."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from builtin_interfaces.msg import Time

from dfm_vla_ros.nodes.clock import (
    Pace,
    StampBase,
    Timeline,
    from_nanoseconds,
    nanoseconds,
)

START_NS = 1_700_000_000 * 10**9


class Clock:
    """A clock that can be moved: real time and an offset, or what is set."""

    def __init__(self) -> None:
        self.offset_ns = START_NS - time.monotonic_ns()
        self.stopped = False

    def now(self) -> SimpleNamespace:
        ns = 0 if self.stopped else time.monotonic_ns() + self.offset_ns
        return SimpleNamespace(nanoseconds=ns)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timeline(clock: Clock) -> Timeline:
    return Timeline(SimpleNamespace(get_clock=lambda: clock))


def test_that_it_follows_a_clock_that_does_not_jump(clock: Clock, timeline: Timeline) -> None:
    assert timeline.now_s() == 0.0
    time.sleep(0.02)
    stamp = from_nanoseconds(clock.now().nanoseconds)
    assert timeline.seconds(stamp) == pytest.approx(timeline.now_s(), abs=0.005)
    assert timeline.take_jump_s() == 0.0
    assert nanoseconds(timeline.stamp(timeline.seconds(stamp))) == nanoseconds(stamp)


@pytest.mark.parametrize("jump_s", [-10.0, -0.2, 5.0])
def test_that_a_jump_is_told_but_not_followed(
    clock: Clock, timeline: Timeline, jump_s: float
) -> None:
    before_s = timeline.now_s()
    clock.offset_ns += round(jump_s * 1e9)
    assert 0.0 <= timeline.now_s() - before_s < 0.05
    assert timeline.take_jump_s() == pytest.approx(jump_s, abs=0.05)
    assert timeline.take_jump_s() == 0.0
    stamp = timeline.stamp(timeline.now_s())
    assert nanoseconds(stamp) == pytest.approx(clock.now().nanoseconds, abs=5e7)


def test_that_stamps_from_before_a_backward_jump_lie_ahead(
    clock: Clock, timeline: Timeline
) -> None:
    timeline.now_s()
    old = from_nanoseconds(clock.now().nanoseconds)
    clock.offset_ns -= 10 * 10**9
    assert timeline.seconds(old) - timeline.now_s() < 1.0, "before it is noticed"
    timeline.take_jump_s()
    assert timeline.seconds(old) - timeline.now_s() == pytest.approx(10.0, abs=0.1)


def test_that_a_small_step_back_is_waited_out(clock: Clock, timeline: Timeline) -> None:
    timeline.now_s()
    time.sleep(0.03)
    before_s = timeline.now_s()
    clock.offset_ns -= 20_000_000
    assert timeline.now_s() >= before_s
    assert timeline.take_jump_s() == 0.0


def test_that_the_start_of_simulated_time_is_no_jump(clock: Clock, timeline: Timeline) -> None:
    clock.stopped = True
    assert timeline.now_s() == 0.0
    clock.stopped = False
    assert timeline.now_s() == pytest.approx(0.0, abs=0.05)
    assert timeline.take_jump_s() == 0.0


def test_that_stamps_survive_the_way_through_seconds() -> None:
    base = StampBase()
    base.seconds(Time(sec=1_795_000_000, nanosec=5))
    stamp = Time(sec=1_795_000_123, nanosec=456_789_123)
    assert base.stamp(base.seconds(stamp)) == stamp


def test_that_a_simulated_clock_that_has_not_begun_is_no_origin() -> None:
    base = StampBase()
    assert base.from_nanoseconds(0) == 0.0
    assert base.seconds(Time(sec=1_795_000_000)) == 0.0


def test_that_nanoseconds_are_exact() -> None:
    ns = 1_795_000_123_456_789_123
    assert nanoseconds(from_nanoseconds(ns)) == ns


def test_that_a_jittering_timer_runs_one_tick_each_time() -> None:
    pace = Pace(0.01, first_s=0.01)
    times = [0.0101, 0.0199, 0.0342, 0.0400, 0.0523]
    assert [pace.due(now) for now in times] == [1] * 5


def test_that_a_short_delay_is_caught_up() -> None:
    pace = Pace(0.01, first_s=0.01)
    assert pace.due(0.04) == 4
    assert pace.slipped_s == 0


def test_that_a_long_delay_slips_instead_of_being_run_after() -> None:
    pace = Pace(0.01, first_s=0.01)
    assert pace.due(2.01) == 1
    assert abs(pace.slipped_s - 2.0) < 1e-9
    assert pace.due(2.02) == 1
