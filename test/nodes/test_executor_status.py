"""Only goals that began after a stop move the arms; a lost heartbeat cannot be overruled."""

from __future__ import annotations

import pytest

from dfm_vla_ros.nodes.executor_status import REMEMBERED_GOALS, EStop, Gate
from dfm_vla_ros.robot.chunks import ChunkRefused, Verdict


@pytest.fixture
def gate() -> Gate:
    made = Gate(EStop(0.0))
    made.active = True
    return made


def verdict(gate: Gate, goal: str = "a", observation_s: float = 9.9, now_s: float = 10.0) -> int:
    try:
        gate.check(goal, observation_s, now_s)
    except ChunkRefused as refusal:
        assert str(refusal)
        return refusal.verdict
    return Verdict.OK


def test_that_an_open_gate_lets_chunks_through(gate: Gate) -> None:
    assert verdict(gate) == Verdict.OK


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("active", False, Verdict.NOT_ACTIVE),
        ("conflict", "another", Verdict.CONFLICT),
        ("jumped", "back", Verdict.CLOCK_JUMPED),
        ("settling", True, Verdict.NOT_ACTIVE),
    ],
)
def test_that_each_reason_has_its_verdict(
    gate: Gate, field: str, value: object, expected: Verdict
) -> None:
    setattr(gate, field, value)
    assert verdict(gate) == expected


def test_that_goals_seen_before_a_stop_never_move_the_arms_again(gate: Gate) -> None:
    verdict(gate, "running")
    gate.e_stop.stop("button")
    assert verdict(gate, "sent while stopped") == Verdict.NOT_ACTIVE
    gate.e_stop.resume(0.0)
    gate.end_goals(10.0)
    for goal in ("running", "sent while stopped"):
        assert verdict(gate, goal, 11.0, 11.1) == Verdict.NOT_ACTIVE
    assert verdict(gate, "new", 9.99, 11.0) == Verdict.NOT_ACTIVE, "observed before the resume"
    assert verdict(gate, "newer", 11.0, 11.1) == Verdict.OK


def test_that_an_observation_ahead_of_the_clock_is_refused(gate: Gate) -> None:
    assert verdict(gate, observation_s=10.2) == Verdict.MALFORMED
    gate.clock_jumped("back")
    gate.jumped = ""
    assert verdict(gate, observation_s=10.2) == Verdict.CLOCK_JUMPED
    assert verdict(gate, observation_s=9.9) == Verdict.OK


def test_that_memory_of_goals_is_bounded(gate: Gate) -> None:
    for number in range(2 * REMEMBERED_GOALS):
        verdict(gate, str(number))
    assert len(gate._goals) == REMEMBERED_GOALS


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
