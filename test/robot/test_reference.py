"""The running reference behaves as the controller that it mirrors."""

from __future__ import annotations

import numpy as np

from dfm_vla_ros.robot.progress import Reference, Trajectory


def line(*points: tuple[float, float], velocities: list[float] | None = None) -> Trajectory:
    times, positions = np.array(points, dtype=float).T
    speeds = None if velocities is None else np.array(velocities, dtype=float)[:, None]
    return Trajectory(("j",), times, positions[:, None], speeds)


def test_that_it_holds_until_a_trajectory_arrives_and_after_it_ends() -> None:
    reference = Reference(np.array([0.5]))
    assert reference.sample(100.0)[0] == 0.5
    reference.replace(line((1, 1.5)), start_s=100.0, now_s=100.0)
    np.testing.assert_allclose(reference.sample(100.5), [[1.0], [1.0]])
    np.testing.assert_allclose(reference.sample(200.0), [[1.5], [0.0]])


def test_that_points_with_velocities_are_joined_by_a_cubic() -> None:
    reference = Reference(np.array([0.0]))
    reference.replace(line((1, 1), velocities=[0]), start_s=0.0, now_s=0.0)
    position, velocity = reference.sample(0.5)
    np.testing.assert_allclose([position, velocity], [[0.5], [1.5]])


def test_that_a_new_trajectory_starts_from_the_state_commanded_then() -> None:
    reference = Reference(np.array([0.0]))
    reference.replace(line((1, 1), velocities=[0]), start_s=0.0, now_s=0.0)
    reference.replace(line((1, 0), velocities=[0]), start_s=0.5, now_s=0.5)
    np.testing.assert_allclose(reference.sample(0.5), [[0.5], [1.5]])


def test_that_a_late_trajectory_is_joined_where_it_is_by_now() -> None:
    reference = Reference(np.array([0.0]))
    reference.replace(line((1, 1), (2, 2)), start_s=0.0, now_s=1.5)
    np.testing.assert_allclose(reference.sample(1.5), [[1.5], [1.0]])
