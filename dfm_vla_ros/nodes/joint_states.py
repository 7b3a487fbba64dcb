"""Subscriptions to joint states: one message for all, or one an arm as arm drivers send them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import JointState

from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.parameters import Parameter
from dfm_vla_ros.observing.joint_states import ARM_TOPICS, WHOLE, ArmJoiner, ArmNames, JointMessage

PARAMETERS = (
    Parameter("arm_joint_states", False, "true: from left_arm/joint_states, right_arm/..."),
    Parameter("arm_joint_names", [""], "seven names that an arm's driver uses; empty: the URDF's"),
    Parameter("gripper_scale", 1.0, "driver's metres per metre of a finger's travel", (0.01, 100)),
)


class JointStateSource:
    """Subscribes to the joint states and hands them on under the names of ``robot.joints``."""

    def __init__(
        self,
        node: Node,
        values: Mapping[str, Any],
        take: Callable[[JointState | JointMessage], None],
    ) -> None:
        """Call ``take`` with each; it may hold more joints than the 14."""
        self._take = take
        self._joiner = ArmJoiner(ArmNames(values))
        if not values["arm_joint_states"]:
            node.create_subscription(JointState, WHOLE, take, qos.SENSOR)
            return
        for topic, arm in ARM_TOPICS.items():
            node.create_subscription(
                JointState, topic, lambda message, arm=arm: self._join(arm, message), qos.SENSOR
            )

    def clear(self) -> None:
        """Forget both arms: the clock jumped or the robot was put elsewhere."""
        self._joiner.clear()

    def _join(self, arm: str, message: JointState) -> None:
        joined = self._joiner.join(arm, message)
        if joined is not None:
            self._take(joined)
