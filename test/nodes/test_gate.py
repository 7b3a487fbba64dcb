"""Who may move the arms: only goals that began after whatever stopped them."""

from __future__ import annotations

import pytest

from dfm_vla_ros.nodes.executor_status import REMEMBERED_GOALS, Gate
from dfm_vla_ros.robot.chunks import ChunkRefused, Verdict


@pytest.fixture
def gate() -> Gate:
    made = Gate()
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
        ("stopped", "button", Verdict.NOT_ACTIVE),
        ("conflict", "another", Verdict.CONFLICT),
        ("jumped", "back", Verdict.CLOCK_JUMPED),
        ("settling", True, Verdict.NOT_ACTIVE),
    ],
)
def test_that_each_objection_has_its_verdict(
    gate: Gate, field: str, value: object, expected: Verdict
) -> None:
    setattr(gate, field, value)
    assert verdict(gate) == expected


def test_that_goals_seen_before_a_stop_never_move_the_arms_again(gate: Gate) -> None:
    verdict(gate, "running")
    gate.stopped = "button"
    verdict(gate, "sent while stopped")
    gate.stopped = ""
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
