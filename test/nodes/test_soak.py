"""What a soak reports: slopes of memory and processes that were left over."""

from __future__ import annotations

import os
import subprocess

import pytest
from builtin_interfaces.msg import Time
from dfm_vla_ros.msg import PolicyStatus

from dfm_vla_ros.commands.soak import left_over
from dfm_vla_ros.graph.soak import Record, resident_mb, told_since


def test_that_growth_is_the_slope_after_the_first_third() -> None:
    record = Record()
    rising = [(30.0 * i, 100.0 + 0.1 * i) for i in range(30)]
    warming = [(30.0 * i, 50.0 + min(i, 10)) for i in range(30)]
    record.memory_mb = {"rising": rising, "warming": warming}
    assert record.growth_mb_per_min("rising") == pytest.approx(0.2)
    assert record.growth_mb_per_min("warming") == pytest.approx(0.0, abs=1e-9)


def test_that_a_process_that_is_left_over_is_found_by_its_session() -> None:
    sleeper = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        assert left_over({sleeper.pid}) == [sleeper.pid]
    finally:
        sleeper.kill()
        sleeper.wait()
    assert left_over({sleeper.pid}) == []


def test_that_memory_is_read_from_the_kernel() -> None:
    assert resident_mb(os.getpid()) > 5.0
    assert resident_mb(2**22 + 1) is None


def test_that_a_status_of_before_a_restart_says_nothing_of_the_new_node() -> None:
    status = PolicyStatus()
    status.header.stamp = Time(sec=5, nanosec=100)
    assert told_since(status, Time(sec=4, nanosec=900))
    assert not told_since(status, Time(sec=5, nanosec=100))
    assert not told_since(status, Time(sec=6))
    assert not told_since(None, Time())
