"""The rules of ros2_controllers' joint_trajectory_controller, branch jazzy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from dfm_vla_ros.errors import TrajectoryRefused
from dfm_vla_ros.robot.joints import ARM_JOINTS
from dfm_vla_ros.robot.progress import Trajectory
from dfm_vla_ros.sim.controller import TrajectoryController
from dfm_vla_ros.sim.experts import expert_targets
from dfm_vla_ros.sim.twin import HOME, Twin

NAMES = ("a", "b")


def make_controller() -> TrajectoryController:
    return TrajectoryController(NAMES, np.zeros(2))


def make_trajectory() -> Trajectory:
    """Both joints reach 1 and 2 at 1 s, then stand still there at 2 s."""
    return Trajectory(
        joint_names=NAMES,
        times_s=np.array([1.0, 2.0]),
        positions=np.array([[1.0, 2.0], [1.0, 2.0]]),
        velocities=np.zeros((2, 2)),
    )


def test_that_it_holds_until_a_trajectory_comes() -> None:
    position, velocity = make_controller().sample(5.0)
    np.testing.assert_array_equal(position, [0, 0])
    np.testing.assert_array_equal(velocity, [0, 0])


def test_that_start_zero_means_now_and_the_last_point_is_held() -> None:
    controller = make_controller()
    controller.receive(make_trajectory(), start_s=0.0, now_s=10.0)
    np.testing.assert_allclose(controller.sample(10.0)[0], [0, 0])
    np.testing.assert_allclose(controller.sample(10.5)[0], [0.5, 1.0])
    np.testing.assert_allclose(controller.sample(11.0)[0], [1, 2])
    np.testing.assert_allclose(controller.sample(99.0)[0], [1, 2])


def test_that_velocities_give_a_cubic() -> None:
    controller = make_controller()
    controller.receive(make_trajectory(), 0.0, 0.0)
    position, velocity = controller.sample(0.25)
    np.testing.assert_allclose(position[0], 3 * 0.25**2 - 2 * 0.25**3)
    np.testing.assert_allclose(velocity[0], 6 * 0.25 - 6 * 0.25**2)


def test_that_positions_alone_give_straight_lines() -> None:
    controller = make_controller()
    controller.receive(replace(make_trajectory(), velocities=None), 0.0, 0.0)
    np.testing.assert_allclose(controller.sample(0.25)[0], [0.25, 0.5])


def test_that_a_start_in_the_future_is_approached_from_now() -> None:
    controller = make_controller()
    controller.receive(replace(make_trajectory(), velocities=None), start_s=4.0, now_s=3.0)
    np.testing.assert_allclose(controller.sample(4.0)[0], [0.5, 1.0])
    np.testing.assert_allclose(controller.sample(5.0)[0], [1, 2])


def test_that_a_new_trajectory_replaces_the_running_one_without_a_jump() -> None:
    controller = make_controller()
    controller.receive(make_trajectory(), 0.0, 10.0)
    before = controller.sample(10.4)
    back = replace(make_trajectory(), positions=np.zeros((2, 2)))
    controller.receive(back, 10.4, 10.4)
    after = controller.sample(10.4 + 1e-9)
    np.testing.assert_allclose(after[0], before[0], atol=1e-6)
    np.testing.assert_allclose(after[1], before[1], atol=1e-6)
    np.testing.assert_allclose(controller.sample(13.0)[0], [0, 0])


def test_that_a_trajectory_whose_first_point_is_past_is_joined_where_it_is() -> None:
    controller = make_controller()
    moving = Trajectory(
        NAMES,
        np.array([0.0, 1.0, 2.0]),
        np.array([[5.0, 5.0], [6.0, 6.0], [7.0, 7.0]]),
        None,
    )
    controller.receive(moving, start_s=10.0, now_s=10.5)
    np.testing.assert_allclose(controller.sample(10.5)[0], [5.5, 5.5])
    np.testing.assert_allclose(controller.sample(11.5)[0], [6.5, 6.5])


def test_that_other_orders_of_the_joints_are_put_right() -> None:
    controller = make_controller()
    swapped = replace(make_trajectory(), joint_names=("b", "a"))
    controller.receive(swapped, 0.0, 0.0)
    np.testing.assert_allclose(controller.sample(2.0)[0], [2.0, 1.0])


NAN = np.array([[1.0, np.nan], [1.0, 2.0]])
HUGE = np.array([[0.0, 1e308], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joint_names": ("a",)}, "missing joints b"),
        ({"joint_names": ("a", "c")}, "unknown joints c"),
        ({"joint_names": ("a", "a")}, "duplicate joints a"),
        ({"joint_names": ()}, "missing joints a, b"),
        ({"times_s": np.empty(0), "positions": np.empty((0, 2))}, "has no points"),
        ({"positions": np.zeros((2, 1))}, r"positions have shape \(2, 1\)"),
        ({"positions": np.zeros((1, 2))}, r"positions have shape \(1, 2\)"),
        ({"velocities": np.zeros((2, 3))}, r"velocities have shape \(2, 3\)"),
        ({"times_s": np.array([1.0, 1.0])}, "must increase strictly"),
        ({"times_s": np.array([2.0, 1.0])}, "must increase strictly"),
        ({"times_s": np.array([1.0, np.inf])}, "must be finite"),
        ({"positions": NAN}, r"positions\[0, 1\] is nan; all numbers must be finite"),
        ({"velocities": NAN}, r"velocities\[0, 1\] is nan"),
        ({"velocities": HUGE}, r"velocities\[0, 1\] is 1e\+308; .* within ±1e\+06"),
        ({"positions": HUGE}, r"positions\[0, 1\] is 1e\+308"),
        ({"velocities": np.array([[0, 0], [0, 0.01]])}, "the last point moves b at 0.010000"),
    ],
)
def test_that_a_wrong_trajectory_is_refused_and_the_old_one_runs_on(
    change: dict, message: str
) -> None:
    controller = make_controller()
    controller.receive(make_trajectory(), 0.0, 10.0)
    with pytest.raises(TrajectoryRefused, match=message):
        controller.receive(replace(make_trajectory(), **change), 0.0, 10.5)
    np.testing.assert_allclose(controller.sample(12.0)[0], [1, 2])


def test_that_a_trajectory_that_ended_in_the_past_is_refused() -> None:
    with pytest.raises(TrajectoryRefused, match=r"ended at 7.000 s, before now, 8.000 s"):
        make_controller().receive(make_trajectory(), start_s=5.0, now_s=8.0)


def test_that_a_last_point_at_rest_within_single_precision_is_accepted() -> None:
    controller = make_controller()
    velocities = np.array([[0.5, 0.5], [1e-8, -1e-8]])
    controller.receive(replace(make_trajectory(), velocities=velocities), 0.0, 0.0)
    np.testing.assert_allclose(controller.sample(2.0)[0], [1, 2])


def test_that_both_arms_lift_the_pot_by_one_trajectory_each(twin: Twin) -> None:
    twin.reset("pot_lift", 9)
    targets = np.vstack([HOME, expert_targets("pot_lift", twin)])
    times = np.arange(len(targets)) * 0.1
    spline = CubicSpline(times, targets, bc_type="clamped")
    lower, upper = twin.limits
    controllers = []
    for arm, columns in (("left", slice(0, 7)), ("right", slice(7, 14))):
        controllers.append(TrajectoryController(ARM_JOINTS[arm], HOME[columns]))
        position, velocity = spline(times)[1:, columns], spline(times, 1)[1:, columns]
        velocity[-1] = 0.0
        trajectory = Trajectory(ARM_JOINTS[arm], times[1:], position, velocity)
        controllers[-1].receive(trajectory, 0.0, twin.time_s)
    for _ in range(round(times[-1] / twin.timestep_s) + 200):
        command = np.concatenate([arm.sample(twin.time_s)[0] for arm in controllers])
        twin.command(np.clip(command, lower, upper))
        twin.step()
    assert twin.status().success
