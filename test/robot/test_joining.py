"""A chunk joins the running one where it has come to, not where the clock has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from chunk_kinds import TOKENIZER, make
from robots import HOME, LIMITS

from dfm_vla_ros.robot.executor import (
    ChunkRefused,
    Executor,
    JoinMode,
    Request,
    SpeedError,
    Verdict,
)
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.plan import PlanSettings

LEAD_S = PlanSettings().lead_s
EVEN = np.arange(1, 9)[:, None]


def ready(**options: Any) -> Executor:
    executor = Executor(TOKENIZER, LIMITS, **options)
    executor.measure(JOINT_NAMES, HOME, 0.0)
    return executor


def ramp(per_step: float, reference: np.ndarray = HOME, **changes: Any) -> Request:
    """Joint 4 of both arms moves by ``per_step`` bins of 5 mrad a step."""
    tokens = np.full((8, 14), 128)
    tokens[:, [3, 10]] += np.rint(EVEN * per_step).astype(int)
    return make("stay", 0, reference, **{"tokens": tokens.ravel(), **changes})


def moved(executor: Executor, t_s: float) -> float:
    return float(executor.sample(t_s)[0][3])


def test_that_at_rest_nothing_is_consumed_however_long_inference_took() -> None:
    executor = ready()
    executor.measure(JOINT_NAMES, HOME, 1.9)
    made = executor.receive(ramp(4, observation_s=0.0), 1.9)
    assert (made.first_step, made.start_s) == (0, 1.9 + LEAD_S)
    assert made.end_s == pytest.approx(1.92 + 0.8)
    assert executor.progress.at(1.92 + 0.25) == pytest.approx(2.5)


def test_that_an_observation_too_old_is_refused() -> None:
    executor = ready()
    executor.measure(JOINT_NAMES, HOME, 2.1)
    with pytest.raises(ChunkRefused, match=r"observation is 2\.100 s old, allowed is 2\.0") as why:
        executor.receive(ramp(4, observation_s=0.0), 2.1)
    assert why.value.verdict == Verdict.TOO_LATE and not why.value.verdict.brakes


@pytest.mark.parametrize("speed", [1.0, 0.5, 0.25])
def test_that_steps_executed_since_the_observation_are_dropped(speed: float) -> None:
    """Observed at step 2 of the old chunk and joined at step 4, at whatever speed it runs."""
    executor = ready()
    executor.speed = speed
    first = executor.receive(ramp(4, observation_s=0.0), 0.0)
    step_s = 0.1 / speed
    seen_s, now_s = first.start_s + 2 * step_s, first.start_s + 4 * step_s - LEAD_S
    executor.measure(JOINT_NAMES, HOME, now_s)
    reference = executor.sample(seen_s)[0]
    made = executor.receive(ramp(4, reference, observation_s=seen_s), now_s)
    assert made.first_step == 2
    assert executor.progress.step_zero_s == pytest.approx(seen_s)
    for step in range(3, 9):
        at = moved(executor, seen_s + step * step_s)
        assert at == pytest.approx(reference[3] + step * 0.02, abs=1e-9)


def test_that_a_rest_in_between_shifts_nothing() -> None:
    """Seen at step 6, the chunk arrives after the old one has come to rest at step 8."""
    executor = ready()
    first = executor.receive(ramp(4, observation_s=0.0), 0.0)
    seen_s = first.start_s + 0.6
    reference = executor.sample(seen_s)[0]
    executor.measure(JOINT_NAMES, HOME, 1.5)
    made = executor.receive(ramp(4, reference, observation_s=seen_s), 1.5)
    assert made.first_step == 2
    np.testing.assert_allclose(made.joined.times_s[1] + made.stamp_s, 1.52 + 0.1)


def blended(mode: JoinMode, **changes: Any) -> tuple[Executor, np.ndarray, float]:
    """Return what follows a chunk back, seen at step 2 of one forward and joined at 3."""
    executor = ready()
    first = executor.receive(ramp(4, observation_s=0.0), 0.0)
    seen_s, now_s = first.start_s + 0.2, first.start_s + 0.3 - LEAD_S
    old = np.array([moved(executor, seen_s + 0.1 * k) for k in range(9)])
    reference = executor.sample(seen_s)[0]
    back = ramp(-4, reference, observation_s=seen_s, mode=mode, **changes)
    executor.receive(back, now_s)
    return executor, old, seen_s


def test_that_a_blend_fades_linearly_over_the_steps_both_have() -> None:
    executor, old, seen_s = blended(JoinMode.BLEND)
    new = old[0] - 0.02 * np.arange(9)
    # Step 1 is past; the old chunk goes on to its step 8, the sixth after the observation.
    for i, step in enumerate(range(2, 7)):
        weight = (5 - i) / 6
        expected = weight * old[step] + (1 - weight) * new[step]
        at = executor.progress.step_zero_s + step * executor.progress.step_period_s
        assert moved(executor, at) == pytest.approx(expected, abs=1e-9)
    assert moved(executor, seen_s + 5.0) == pytest.approx(new[8])


def test_that_committed_steps_are_the_running_chunks_own() -> None:
    executor, old, seen_s = blended(JoinMode.RTC, committed_steps=3)
    period_s = executor.progress.step_period_s
    zero_s = executor.progress.step_zero_s
    for step in (2, 3):
        assert moved(executor, zero_s + step * period_s) == pytest.approx(old[step], abs=1e-9)
    for step in (4, 5, 8):
        expected = old[0] - 0.02 * step
        assert moved(executor, zero_s + step * period_s) == pytest.approx(expected, abs=1e-9)
    assert zero_s == pytest.approx(seen_s) or period_s > 0.1


@pytest.mark.parametrize("mode", [JoinMode.LATEST, JoinMode.SYNCHRONOUS])
def test_that_the_latest_takes_all_steps_ahead(mode: JoinMode) -> None:
    executor, old, _ = blended(mode, committed_steps=3)
    at = executor.progress.step_zero_s + 2 * executor.progress.step_period_s
    assert moved(executor, at) == pytest.approx(old[0] - 0.04, abs=1e-9)


def test_that_steps_beyond_those_to_execute_are_cut() -> None:
    executor = ready()
    made = executor.receive(ramp(4, observation_s=0.0, execute_steps=3), 0.0)
    assert (executor.progress.last_step, made.end_s) == (3, pytest.approx(0.32))
    assert moved(executor, 5.0) == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("mode", "interval_s", "scale"),
    [
        (JoinMode.RTC, 0.0, 1.0),
        (JoinMode.RTC, 0.5, 1.0),
        (JoinMode.RTC, 1.4 - LEAD_S, 2.0),
        (JoinMode.RTC, 99.0, 4.0),
        (JoinMode.BLEND, 1.4, 1.0),
        (JoinMode.SYNCHRONOUS, 1.4, 1.0),
    ],
)
def test_that_only_rtc_runs_slower_rather_than_rest(
    mode: JoinMode, interval_s: float, scale: float
) -> None:
    request = ramp(4, observation_s=0.0, mode=mode, expected_interval_s=interval_s)
    assert ready().receive(request, 0.0).time_scale == pytest.approx(scale)


@pytest.mark.parametrize("speed", [0.0, -1.0, 1.5, np.nan])
def test_that_a_speed_out_of_range_is_refused(speed: float) -> None:
    executor = ready()
    with pytest.raises(SpeedError, match="speed is"):
        executor.speed = speed
    assert executor.speed == 1.0


def test_that_a_joining_near_an_old_point_moves_onto_it() -> None:
    executor = ready()
    first = executor.receive(ramp(4, observation_s=0.0), 0.0)
    corner_s = first.start_s + 0.3
    reference = executor.sample(0.2)[0]
    made = executor.receive(ramp(4, reference, observation_s=0.2), corner_s - LEAD_S - 4e-4)
    assert made.start_s == pytest.approx(corner_s, abs=1e-12)


def test_that_points_of_the_old_motion_before_the_joining_are_repeated() -> None:
    executor = ready()
    first = executor.receive(ramp(4, observation_s=0.0), 0.0)
    now_s = first.start_s + 0.3 - 0.01
    reference = executor.sample(0.2)[0]
    made = executor.receive(ramp(4, reference, observation_s=0.2), now_s)
    np.testing.assert_allclose(made.joined.times_s[:2], [0.01, LEAD_S], atol=1e-12)
    np.testing.assert_array_equal(made.joined.positions[0], first.joined.positions[3])


def test_that_a_dry_run_plans_from_where_the_robot_is_and_commands_nothing() -> None:
    executor = ready(dry_run=True)
    there = HOME + np.where(LIMITS.prismatic, 0.0, 0.01)
    executor.receive(ramp(4, observation_s=0.0), 0.0)
    executor.measure(JOINT_NAMES, there, 0.3)
    np.testing.assert_array_equal(executor.sample(0.4), [there, np.zeros(14)])
    made = executor.receive(ramp(4, there, observation_s=0.3), 0.4)
    np.testing.assert_array_equal(made.joined.positions[0], there)
    assert not made.joined.velocities[0].any()
    assert executor.executing(0.5) and executor.progress.at(0.6) > 2
    assert (executor.account(0.5).executed, executor.hold(0.5)) == (2, None)
    assert not executor.executing(0.6)
