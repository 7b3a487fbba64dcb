"""The stream of joint states as a driver gets it, and trajectories as a controller does."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState

from dfm_vla_ros.nodes.clock import Timeline
from dfm_vla_ros.nodes.outputs import JointStateStream, held
from dfm_vla_ros.robot.joints import ARM_JOINTS, ARMS, JOINT_NAMES
from dfm_vla_ros.robot.plan import Plan
from dfm_vla_ros.robot.progress import Trajectory
from dfm_vla_ros.robot.spline import clamped

VALUES = {"stream_rate": 200.0, "arm_joint_names": [""], "gripper_scale": 2.0}


@pytest.fixture
def node(ros_domain: int) -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain)
    made = rclpy.create_node("driver", context=context)
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


def moving(timeline: Timeline) -> Plan:
    """Return a plan that moves joint k from 0 to 0.1 k within a second."""
    times_s = np.linspace(0.0, 1.0, 11)
    path = np.outer(times_s**2 * (3 - 2 * times_s), 0.1 * np.arange(len(JOINT_NAMES)))
    spline = clamped(times_s, path, np.zeros(len(JOINT_NAMES)))
    joined = Trajectory(JOINT_NAMES, spline.times_s, spline.positions, spline.velocities)
    now_s = timeline.now_s()
    return Plan({}, joined, now_s, 1.0, 0, now_s, spline)


@pytest.mark.parametrize("with_velocities", [True, False])
def test_that_a_stream_holds_velocities_unless_told_otherwise(
    node: Node, with_velocities: bool
) -> None:
    seen: dict[str, list[JointState]] = {arm: [] for arm in ARMS}
    for arm, kept in seen.items():
        node.create_subscription(JointState, f"{arm}_arm/joint_command", kept.append, 100)
    timeline = Timeline(node)
    values = {**VALUES, "stream_velocities": with_velocities}
    stream = JointStateStream(node, timeline, JOINT_NAMES, values)
    stream.follow(moving(timeline))
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end_s = time.monotonic() + 10.0
    while min(map(len, seen.values())) < 50 and time.monotonic() < end_s:
        executor.spin_once(timeout_sec=0.1)
    stream.finish(None)
    executor.shutdown()
    for arm, kept in seen.items():
        assert len(kept) >= 50
        assert all(list(message.name) == list(ARM_JOINTS[arm]) for message in kept)
        assert np.ptp([message.position[1] for message in kept]) > 0
        assert {len(message.velocity) for message in kept} == {7 if with_velocities else 0}
        assert not any(message.effort for message in kept)


def test_that_a_trajectory_goes_on_at_rest_so_that_one_that_comes_late_has_not_ended() -> None:
    moving = Trajectory(
        ("a",), np.array([0.1, 0.2]), np.array([[0.0], [1.0]]), np.array([[5.0], [0.0]])
    )
    longer = held(moving)
    assert longer.times_s.tolist() == pytest.approx([0.1, 0.2, 1.2])
    assert longer.positions.ravel().tolist() == [0.0, 1.0, 1.0]
    assert longer.velocities.ravel().tolist() == [5.0, 0.0, 0.0]
