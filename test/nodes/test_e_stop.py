"""A stop stays until it is ended; a heartbeat that is lost cannot be overruled."""

from __future__ import annotations

import pytest

from dfm_vla_ros.nodes.executor_status import EStop


def test_that_the_first_reason_stays_until_it_is_resumed() -> None:
    e_stop = EStop(0.0)
    assert e_stop.stop("button")
    assert not e_stop.stop("something else")
    assert e_stop.reason == "button"
    assert e_stop.resume(0.0) == ""
    assert e_stop.reason == ""


def test_that_it_may_begin_stopped() -> None:
    assert EStop(0.0, "at the start").reason == "at the start"


def test_that_without_a_timeout_no_heartbeat_is_missed() -> None:
    assert EStop(0.0).fault(1e6) == ""


@pytest.mark.parametrize(
    ("alive", "now_s", "fault"),
    [
        (True, 1.5, ""),
        (True, 1.51, "the heartbeat is silent for 0.51 s, allowed is 0.5 s"),
        (False, 1.0, "the heartbeat says false"),
    ],
)
def test_that_a_heartbeat_fails_on_false_and_on_silence(
    alive: bool, now_s: float, fault: str
) -> None:
    e_stop = EStop(0.5)
    e_stop.beat(alive, 1.0)
    assert e_stop.fault(now_s) == fault


def test_that_a_lost_heartbeat_hinders_the_end_of_a_stop() -> None:
    e_stop = EStop(0.5)
    e_stop.beat(True, 1.0)
    e_stop.stop("button")
    assert "silent" in e_stop.resume(2.0)
    assert e_stop.reason == "button"
    e_stop.beat(True, 2.0)
    assert e_stop.resume(2.1) == ""


def test_that_the_first_heartbeat_has_as_long_as_any_other() -> None:
    e_stop = EStop(0.5)
    assert "since the start" in e_stop.fault(0.0)
    e_stop.expect(10.0)
    assert e_stop.fault(10.5) == ""
    assert e_stop.fault(10.6)
