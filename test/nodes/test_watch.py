"""Joint messages that hold what no robot has."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from dfm_vla_ros.msg import TaskStatus
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState

from dfm_vla_ros.nodes.clock import StampBase
from dfm_vla_ros.nodes.inputs import LiveObserver
from dfm_vla_ros.nodes.policy_parameters import PARAMETERS, observer_settings
from dfm_vla_ros.observing.cameras import Rgb, joints_moving
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES

NOW_NS = 1_700_000_000 * 10**9


class Node:
    """As much of a node as a watch needs: its clock stands, its subscriptions are called."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable] = {}

    def create_subscription(
        self, kind: type, topic: str, callback: Callable, _: object, raw: bool = False
    ) -> None:
        if not raw:
            self.callbacks[topic] = callback
            return
        self.callbacks[topic] = lambda message: callback(serialize_message(message))

    def get_clock(self) -> SimpleNamespace:
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=NOW_NS))

    def joints(self, topic: str, positions: np.ndarray, velocities: np.ndarray) -> None:
        message = JointState(
            name=list(JOINT_NAMES), position=positions.tolist(), velocity=velocities.tolist()
        )
        message.header.stamp = Time(sec=NOW_NS // 10**9)
        self.callbacks[topic](message)


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def watch(node: Node) -> LiveObserver:
    values = {parameter.name: parameter.default for parameter in PARAMETERS}
    return LiveObserver(node, StampBase(), observer_settings(values), lambda: None)


def with_value(joint: str, value: float) -> np.ndarray:
    made = np.zeros(len(JOINT_NAMES))
    made[JOINT_NAMES.index(joint)] = value
    return made


@pytest.mark.parametrize("joint", ["left_joint2", "right_gripper"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_that_a_position_that_is_not_finite_is_a_fault_that_names_the_joint(
    node: Node, watch: LiveObserver, joint: str, value: float
) -> None:
    node.joints("joint_states", with_value(joint, value), np.zeros(14))
    assert f"joint_states: {joint} is {value}, not finite" in watch.problem(watch.now())
    node.joints("joint_states", np.zeros(14), np.zeros(14))
    assert "not finite" not in watch.problem(watch.now())


def test_that_a_velocity_that_is_not_finite_counts_as_standing_still(
    node: Node, watch: LiveObserver
) -> None:
    grey = np.zeros((8, 8, 3), dtype=np.uint8)
    give_images(watch, grey)
    for topic in ("joint_states", "commanded_joint_states"):
        node.joints(topic, np.zeros(14), with_value("left_joint1", np.nan))
    assert watch.problem(watch.now()) == ""
    assert np.isfinite(watch.observation("go").positions).all()


def give_images(watch: LiveObserver, image: Rgb) -> None:
    """Let all cameras have taken ``image`` 10 ms ahead, where velocities count."""
    now = watch.now()
    for camera in CAMERAS:
        watch.sources[f"{camera}_camera"].put(image, now.ros_s + 0.01, now)


def test_that_a_clock_that_went_backward_empties_every_source(
    node: Node, watch: LiveObserver
) -> None:
    give_images(watch, np.zeros((8, 8, 3), dtype=np.uint8))
    for topic in ("joint_states", "commanded_joint_states"):
        node.joints(topic, np.zeros(14), np.zeros(14))
    node.callbacks["task_status"](TaskStatus(success=True))
    assert watch.problem(watch.now()) == ""
    watch.jump_back()
    for name, source in watch.sources.items():
        assert watch.problem_of(name, watch.now()) == f"{source.name}: no message yet"
    assert not watch.succeeded_since(-np.inf)


def test_that_a_wrist_camera_sees_its_own_arm_and_the_third_both() -> None:
    moving = {camera: joints_moving(camera) for camera in CAMERAS}
    names = np.array(JOINT_NAMES)
    assert list(names[moving["left_wrist"]]) == [f"left_joint{i}" for i in range(1, 7)]
    assert list(names[moving["right_wrist"]]) == [f"right_joint{i}" for i in range(1, 7)]
    assert (moving["third"] == (moving["left_wrist"] | moving["right_wrist"])).all()
