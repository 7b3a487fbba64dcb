"""Braking is quick, and inside every limit that physics lets it keep."""

from __future__ import annotations

import numpy as np
import pytest
from controllers import assert_acceptable, dense
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from robots import HOME, LIMITS

from dfm_vla_ros.robot.plan import Plan, PlanSettings, approach_at, brake

SETTINGS = PlanSettings()
INNER = LIMITS.shrunk(SETTINGS.margin_rad)
UNIT = st.floats(-1, 1) | st.sampled_from([-1.0, 0.0, 1.0])
UNITS = arrays(np.float64, 14, elements=UNIT)


def stopped(position: np.ndarray, velocity: np.ndarray) -> Plan:
    made = brake(position, velocity, 5.0, approach_at(4.98, 14), LIMITS, SETTINGS)
    assert_acceptable(made, 4.98)
    np.testing.assert_array_equal(made.joined.positions[0], position)
    np.testing.assert_array_equal(made.joined.velocities[0], velocity)
    return made


def curve(made: Plan) -> tuple[np.ndarray, ...]:
    return dense(made.joined.times_s, made.joined.positions, made.joined.velocities)


def test_that_full_speed_stops_within_a_fifth_of_a_second() -> None:
    made = stopped(HOME * 0.9, LIMITS.velocity)
    assert made.end_s - 4.98 < 0.2
    _, _, bend, jerk = curve(made)
    assert np.abs(bend).max() <= 60.0 + 1e-9
    # The gripper has 3.5 mm to its bound at 1 m/s: it may jerk, the arms need not.
    arms = ~LIMITS.prismatic
    assert (np.abs(jerk)[:, arms] <= LIMITS.jerk[arms] * (1 + 1e-9)).all()


def test_that_no_allowed_stop_is_shorter() -> None:
    """v / A + A / J: the deceleration rises to its bound, stays and falls."""
    velocity = np.zeros(14)
    velocity[0] = 3.0
    made = stopped(HOME, velocity)
    assert made.end_s - 5.0 == pytest.approx(3 / 60 + 60 / 1500)
    velocity[0] = 1.0  # the bound is not reached: 2 sqrt(v / J)
    assert stopped(HOME, velocity).end_s - 5.0 == pytest.approx(2 * np.sqrt(1 / 1500))


def test_that_the_joints_stop_on_a_straight_line() -> None:
    velocity = np.linspace(-1, 1, 14) * ~LIMITS.prismatic
    made = stopped(HOME, velocity)
    for positions in made.joined.positions[1:]:
        way = (positions - HOME)[:6] / velocity[:6]
        np.testing.assert_allclose(way, way[0], atol=1e-12)


@settings(max_examples=300, deadline=None)
@given(UNITS, UNITS, st.floats(0, 1))
def test_that_a_stop_that_can_stay_inside_does(
    where: np.ndarray, fast: np.ndarray, hard: float
) -> None:
    middle, half = (INNER.lower + INNER.upper) / 2, (INNER.upper - INNER.lower) / 2
    position = np.clip(middle + where * half, INNER.lower, INNER.upper)
    room = np.where(fast > 0, INNER.upper - position, position - INNER.lower)
    stoppable = np.sqrt(2 * LIMITS.acceleration * room) * (0.5 + 0.5 * hard)
    velocity = np.sign(fast) * np.minimum(np.abs(fast) * LIMITS.velocity, stoppable)
    made = stopped(position, velocity)
    q, v, bend, jerk = curve(made)
    assert (q >= INNER.lower - 1e-9).all() and (q <= INNER.upper + 1e-9).all()
    assert (np.abs(v) <= np.abs(velocity) + 1e-9).all()
    assert (np.abs(bend) <= LIMITS.acceleration * 1.001).all()
    # A joint covers v T / 2 on its way to rest; one with less room has to stop sooner.
    together = 2 * room >= np.abs(velocity) * (made.end_s - 5.0) * (1 + 1e-9)
    assert (np.abs(jerk)[:, together] <= LIMITS.jerk[together] * 1.001).all()
    assert made.end_s - 5.0 < 0.18


@settings(max_examples=100, deadline=None)
@given(UNITS, UNITS)
def test_that_where_no_stop_stays_inside_the_hardest_allowed_is_made(
    where: np.ndarray, fast: np.ndarray
) -> None:
    position = (INNER.lower + INNER.upper) / 2 + where * (INNER.upper - INNER.lower) / 2
    velocity = fast * LIMITS.velocity
    q, _, bend, _ = curve(stopped(position, velocity))
    assert (np.abs(bend) <= LIMITS.acceleration * 1.001).all()
    furthest = np.abs(velocity) * velocity / (2 * LIMITS.acceleration) + position
    assert (q <= np.maximum(INNER.upper, np.maximum(furthest, position)) + 1e-6).all()
    assert (q >= np.minimum(INNER.lower, np.minimum(furthest, position)) - 1e-6).all()
