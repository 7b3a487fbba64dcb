"""Targets become trajectories that two controllers can follow, or are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from robots import DUE, HOME, LIMITS, REST

from dfm_vla_ros.robot.plan import Plan, PlanRefused, PlanSettings, PlanTooLate, plan
from dfm_vla_ros.robot.progress import Reference
from dfm_vla_ros.robot.spline import Spline

SETTINGS = PlanSettings()


def targets(change: float = 0.0, joint: int = 0) -> np.ndarray:
    moved = np.tile(HOME, (8, 1))
    moved[:, joint] += change
    return moved


def full_curve(made: Plan, position: np.ndarray, velocity: np.ndarray) -> Spline:
    """The published points, joined as a controller joins them."""
    assert made.joined.times_s[0] > 0
    np.testing.assert_array_equal(made.joined.positions[0], position)
    np.testing.assert_array_equal(made.joined.velocities[0], velocity)
    return Spline(made.joined.times_s, made.joined.positions, made.joined.velocities)


def test_that_both_arms_get_the_same_times_and_end_at_rest() -> None:
    made = plan(targets(0.1), DUE, 0.0, HOME, REST, LIMITS)
    left, right = made.trajectories["left"], made.trajectories["right"]
    np.testing.assert_array_equal(left.times_s, right.times_s)
    assert left.joint_names == LIMITS.names[:7]
    assert right.joint_names == LIMITS.names[7:]
    assert (left.velocities[-1] == 0).all() and (right.velocities[-1] == 0).all()
    assert made.stamp_s == -SETTINGS.lead_s
    np.testing.assert_allclose(made.end_s, 0.8)


def test_that_targets_are_reached_when_they_are_due() -> None:
    wanted = targets() + np.linspace(0.01, 0.08, 8)[:, None] * (~LIMITS.prismatic)
    made = plan(wanted, DUE, 0.0, HOME, REST, LIMITS)
    reference = Reference(HOME)
    reference.replace(made.joined, made.stamp_s, made.stamp_s)
    for step, due in enumerate(DUE):
        np.testing.assert_allclose(reference.sample(due)[0], wanted[step], atol=1e-9)


def test_that_steps_already_past_are_dropped() -> None:
    made = plan(targets(0.02), DUE, 0.22, HOME, REST, LIMITS)
    assert made.first_step == 2
    np.testing.assert_allclose(made.joined.times_s[:2] + made.stamp_s, [0.22, 0.3])


def test_that_a_chunk_of_the_past_is_too_late() -> None:
    with pytest.raises(PlanTooLate, match=r"last step was due 0\.200 s ago"):
        plan(targets(), DUE, 1.0, HOME, REST, LIMITS)


def test_that_a_target_slightly_outside_is_moved_inside() -> None:
    made = plan(targets(0.005, joint=6), DUE, 0.0, HOME, REST, LIMITS)
    assert made.joined.positions[:, 6].max() == 0.035


def test_that_a_target_far_outside_is_refused_with_joint_value_and_bound() -> None:
    with pytest.raises(PlanRefused) as caught:
        plan(targets(1.8, joint=1), DUE, 0.0, HOME, REST, LIMITS)
    assert str(caught.value) == (
        "target of left_joint2 is 3.3700 rad, allowed is 0.0 .. 3.14 "
        "(moved to the limit up to 0.2 outside)"
    )


def test_that_a_jump_is_refused() -> None:
    with pytest.raises(PlanRefused) as caught:
        plan(targets(0.9), DUE, 0.0, HOME, REST, LIMITS)
    assert str(caught.value) == (
        "first target of left_joint1 is 0.9000 rad, 0.9000 from the commanded 0.0000; "
        "allowed is 0.6"
    )


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_that_a_target_that_is_no_number_is_refused(broken: float) -> None:
    with pytest.raises(PlanRefused, match=r"target of right_joint4 is (nan|inf), not finite"):
        plan(targets(broken, joint=10), DUE, 0.0, HOME, REST, LIMITS)


def test_that_a_fast_chunk_is_slowed_for_both_arms_together() -> None:
    made = plan(targets(0.55), DUE, 0.0, HOME, REST, LIMITS)
    assert made.time_scale > 1
    curve = full_curve(made, HOME, REST)
    assert (curve.extremes()[2] <= LIMITS.velocity * (1 + 1e-9)).all()
    np.testing.assert_array_equal(
        made.trajectories["left"].times_s, made.trajectories["right"].times_s
    )


def test_that_a_closing_gripper_does_not_pass_its_limit() -> None:
    closing = targets()
    closing[:, 6] = [0.03, 0.015, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    made = plan(closing, DUE, 0.0, HOME, REST, LIMITS)
    smallest, largest, *_ = full_curve(made, HOME, REST).extremes()
    assert smallest[6] >= -1e-8 and largest[6] <= 0.035 + 1e-8


def test_that_a_gripper_moving_out_stops_before_its_limit() -> None:
    position, velocity = HOME.copy(), REST.copy()
    position[6], velocity[6] = 0.002, -0.2
    wanted = targets()
    wanted[:, 6] = 0.02
    made = plan(wanted, DUE, 0.0, position, velocity, LIMITS)
    assert full_curve(made, position, velocity).extremes()[0][6] >= -1e-8


def test_that_the_spline_of_an_arm_joint_has_continuous_acceleration() -> None:
    wanted = targets(0.0)
    wanted[:, 0] = 0.1 * np.sin(np.arange(8))
    curve = full_curve(plan(wanted, DUE, 0.0, HOME, REST, LIMITS), HOME, REST)
    h, _, b, a = curve._coefficients()
    before, after = (2 * b + 6 * a) / h**2, 2 * b / h**2
    np.testing.assert_allclose(before[:-1, 0], after[1:, 0], atol=1e-9)


def test_that_a_start_outside_the_margin_may_come_back() -> None:
    position = HOME.copy()
    position[2] = 0.001
    wanted = np.tile(position, (8, 1))
    wanted[:, 2] = -0.1
    made = plan(wanted, DUE, 0.0, position, REST, LIMITS)
    assert made.joined.positions[-1, 2] == -0.1


ANY = arrays(
    np.float64,
    (8, 14),
    elements=st.floats(-0.3, 0.3) | st.sampled_from([0.0, 5.0, np.nan, np.inf, 1e300]),
    fill=st.just(0.0),
)
SPEED = arrays(np.float64, (14,), elements=st.floats(-0.5, 0.5))


@settings(max_examples=200, deadline=None)
@given(ANY, st.floats(0, 1), SPEED)
def test_that_whatever_is_planned_keeps_every_limit(
    change: np.ndarray, now_s: float, speed: np.ndarray
) -> None:
    velocity = speed * LIMITS.velocity
    try:
        made = plan(HOME + change, DUE, now_s, HOME, velocity, LIMITS)
    except PlanRefused:
        return
    smallest, largest, fastest, bend, jerk = full_curve(made, HOME, velocity).extremes()
    assert (smallest >= LIMITS.lower - 1e-8).all() and (largest <= LIMITS.upper + 1e-8).all()
    assert (fastest <= LIMITS.velocity * (1 + 1e-8)).all()
    assert (bend <= LIMITS.acceleration * (1 + 1e-8)).all()
    assert (jerk <= LIMITS.jerk * (1 + 1e-8)).all()
    assert (np.diff(made.joined.times_s) > 0).all() and made.joined.times_s[0] > 0
    assert (made.joined.velocities[-1] == 0).all()
    dense = np.linspace(0, made.joined.times_s[-1], 60) + made.stamp_s
    reference = Reference(HOME)
    reference.replace(made.joined, made.stamp_s, made.stamp_s + 1e-9 + SETTINGS.lead_s)
    sampled = np.array([reference.sample(at)[0] for at in dense])
    assert (sampled >= smallest - 1e-9).all() and (sampled <= largest + 1e-9).all()
