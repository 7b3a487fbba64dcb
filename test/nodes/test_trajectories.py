"""Trajectories survive the way through a message, and malformed ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from dfm_vla_ros.nodes.messages import TrajectoryMalformed, from_message, to_message
from dfm_vla_ros.robot.progress import Trajectory

MADE = Trajectory(
    ("a", "b"),
    np.array([0.02, 1.5]),
    np.array([[1.0, 2.0], [3.0, 4.0]]),
    np.array([[0.1, 0.2], [0.0, 0.0]]),
)


def test_that_a_trajectory_survives() -> None:
    message = to_message(MADE, Time(sec=7))
    assert message.header.stamp.sec == 7
    back = from_message(message)
    assert back.joint_names == MADE.joint_names
    for field in ("times_s", "positions", "velocities"):
        np.testing.assert_array_equal(getattr(back, field), getattr(MADE, field))


def test_that_positions_alone_are_a_trajectory() -> None:
    bare = Trajectory(MADE.joint_names, MADE.times_s, MADE.positions)
    assert from_message(to_message(bare, Time())).velocities is None


def test_that_points_of_other_sizes_are_refused() -> None:
    message = to_message(MADE, Time())
    message.points[1].velocities = [0.0]
    with pytest.raises(TrajectoryMalformed, match="point 1 has 2 positions and 1 velocities"):
        from_message(message)


@pytest.mark.parametrize("field", ["accelerations", "effort"])
def test_that_what_is_not_followed_is_refused_by_name(field: str) -> None:
    message = to_message(MADE, Time())
    setattr(message.points[1], field, [0.0, 0.0])
    with pytest.raises(TrajectoryMalformed, match=f"point 1 has {field}"):
        from_message(message)


def test_that_velocities_at_some_points_only_are_refused() -> None:
    message = to_message(MADE, Time())
    message.points[0].velocities = []
    with pytest.raises(TrajectoryMalformed, match="no velocities at all"):
        from_message(message)


def test_that_a_trajectory_without_points_is_refused() -> None:
    with pytest.raises(TrajectoryMalformed, match="no points"):
        from_message(JointTrajectory(joint_names=["a"]))
    with pytest.raises(TrajectoryMalformed, match="point 0 has 0 positions"):
        from_message(JointTrajectory(joint_names=["a"], points=[JointTrajectoryPoint()]))
