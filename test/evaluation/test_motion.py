"""Steps and pauses are found where they were put."""

from __future__ import annotations

import numpy as np
import pytest

from dfm_vla_ros.evaluation.motion import Motion, MotionRecord, State

TICK_S = 0.002


def wave(t_s: float) -> State:
    """Return two joints that swing."""
    return np.sin(t_s + np.array([0.0, 1.0])), np.cos(t_s + np.array([0.0, 1.0]))


def recorded(rest: tuple[float, float] = (9.0, 9.0), executing: bool = True) -> MotionRecord:
    """Return the record of 2 s of waves at rest between two times."""
    motion = Motion()
    motion.joined(wave(0.0), wave, 0.0, 0.02, 1.0)
    for now_s in np.arange(0.0, 2.0, TICK_S):
        resting = rest[0] <= now_s < rest[1]
        position, velocity = wave(now_s)
        state = (position, np.zeros(2)) if resting else (position, velocity)
        motion.command(now_s, state, executing or not resting)
    return motion.record(2.0)


def test_that_a_smooth_motion_has_neither_steps_nor_pauses() -> None:
    found = recorded()
    assert found.position_step_rad < 1e-5
    assert (found.pauses, found.pause_s, found.starved_s) == (0, 0.0, 0.0)


@pytest.mark.parametrize(("length_s", "pauses"), [(0.018, 0), (0.024, 1), (0.5, 1)])
def test_that_a_rest_counts_as_a_pause_once_it_is_longer_than_20_ms(
    length_s: float, pauses: int
) -> None:
    found = recorded((1.0, 1.0 + length_s))
    assert found.pauses == pauses
    assert found.longest_pause_s == pytest.approx(length_s if pauses else 0.0, abs=2 * TICK_S)


def test_that_being_without_a_chunk_is_counted_apart() -> None:
    found = recorded((1.0, 1.3), executing=False)
    assert found.starved_s == pytest.approx(0.3, abs=2 * TICK_S)


@pytest.mark.parametrize("off", [1e-3, 1e-5])
def test_that_steps_at_a_seam_are_measured(off: float) -> None:
    motion = Motion()
    start_s = 0.52

    def sample(t_s: float) -> State:
        position, velocity = wave(t_s)
        late = t_s > start_s
        return position + late * off, velocity + late * 2 * off

    motion.joined(sample(0.5), sample, 0.5, start_s, 2.0)
    found = motion.record(1.0)
    assert found.seam_position_step_rad == pytest.approx(off, rel=1e-3)
    assert found.seam_velocity_step_rad_s == pytest.approx(2 * off, rel=0.05)
    assert found.speed_scale == 0.5


def test_that_a_jump_between_two_commands_is_measured() -> None:
    motion = Motion()
    motion.command(0.0, (np.zeros(1), np.ones(1)), True)
    motion.command(0.002, (np.array([0.102]), np.ones(1)), True)
    assert motion.record(0.002).position_step_rad == pytest.approx(0.1)
