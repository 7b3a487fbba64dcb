from __future__ import annotations

from builtin_interfaces.msg import Time

from dfm_vla_ros.nodes.clock import TimeBase, from_nanoseconds, nanoseconds


def test_that_stamps_survive_the_way_through_seconds() -> None:
    base = TimeBase()
    base.seconds(Time(sec=1_795_000_000, nanosec=5))
    stamp = Time(sec=1_795_000_123, nanosec=456_789_123)
    assert base.stamp(base.seconds(stamp)) == stamp


def test_that_a_simulated_clock_that_has_not_begun_is_no_origin() -> None:
    base = TimeBase()
    assert base.from_nanoseconds(0) == 0.0
    assert base.seconds(Time(sec=1_795_000_000)) == 0.0


def test_that_nanoseconds_are_exact() -> None:
    ns = 1_795_000_123_456_789_123
    assert nanoseconds(from_nanoseconds(ns)) == ns
