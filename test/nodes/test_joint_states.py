"""Joint states arrive under our names, whatever an arm's driver calls its joints."""

from __future__ import annotations

import pytest
from builtin_interfaces.msg import Time
from sensor_msgs.msg import JointState

from dfm_vla_ros.nodes.inputs import JointStateSource
from dfm_vla_ros.observing.sources import ArmNames, JointNamesError
from dfm_vla_ros.robot.joints import JOINT_NAMES

DRIVER = [*(f"joint{i}" for i in range(1, 7)), "gripper"]


class Subscriptions:
    """Stands in for a node: keeps the callbacks by topic."""

    def __init__(self) -> None:
        self.callbacks = {}

    def create_subscription(self, kind: type, topic: str, callback: object, _: object) -> None:
        self.callbacks[topic] = callback


def values(**changes: object) -> dict:
    return {
        "arm_joint_states": True,
        "arm_joint_names": DRIVER,
        "gripper_scale": 2.0,
        **changes,
    }


def state(seconds: int, first: float, gripper: float) -> JointState:
    message = JointState(name=DRIVER, position=[first, 0.0, 0.0, 0.0, 0.0, 0.0, gripper])
    message.header.stamp = Time(sec=seconds)
    return message


def test_that_two_arms_are_joined_with_the_older_stamp() -> None:
    node, taken = Subscriptions(), []
    JointStateSource(node, values(), taken.append)
    assert list(node.callbacks) == ["left_arm/joint_states", "right_arm/joint_states"]
    node.callbacks["left_arm/joint_states"](state(5, 0.1, 0.07))
    assert taken == []
    node.callbacks["right_arm/joint_states"](state(3, 0.2, 0.02))
    (joined,) = taken
    assert tuple(joined.name) == JOINT_NAMES
    assert joined.header.stamp.sec == 3
    assert joined.position[0] == 0.1
    assert joined.position[7] == 0.2
    assert (joined.position[6], joined.position[13]) == pytest.approx((0.035, 0.01))


def test_that_a_joint_that_a_driver_leaves_out_is_left_out() -> None:
    node, taken = Subscriptions(), []
    JointStateSource(node, values(), taken.append)
    short = JointState(name=DRIVER[:-1], position=[0.0] * 6)
    node.callbacks["left_arm/joint_states"](short)
    node.callbacks["right_arm/joint_states"](state(1, 0.0, 0.0))
    assert "left_gripper" not in taken[0].name
    assert "right_gripper" in taken[0].name


def test_that_one_message_for_both_arms_is_handed_on_as_it_is() -> None:
    node, taken = Subscriptions(), []
    JointStateSource(node, values(arm_joint_states=False), taken.append)
    message = JointState(name=["x"])
    node.callbacks["joint_states"](message)
    assert taken == [message]


@pytest.mark.parametrize("names", [["a", "b"], ["a"] * 7])
def test_that_names_that_cannot_be_seven_joints_are_refused(names: list[str]) -> None:
    with pytest.raises(JointNamesError, match="give 7, joints 1 to 6 and the gripper"):
        ArmNames(values(arm_joint_names=names))
