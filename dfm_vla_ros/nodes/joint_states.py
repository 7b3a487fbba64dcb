"""Joint states of both arms: one message for all, or one an arm as arm drivers send them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import JointState

from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.parameters import Parameter, ParameterError
from dfm_vla_ros.nodes.whole_messages import WholeMessages
from dfm_vla_ros.robot.joints import ARM_JOINTS, ARMS

PARAMETERS = (
    Parameter("arm_joint_states", False, "true: from left_arm/joint_states, right_arm/..."),
    Parameter("arm_joint_names", [""], "seven names that an arm's driver uses; empty: the URDF's"),
    Parameter("gripper_scale", 1.0, "driver's metres per metre of a finger's travel", (0.01, 100)),
)

WHOLE = "joint_states"


class ArmNames:
    """How one arm's driver names its joints and measures its gripper."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Take the node's parameters.

        Raises:
            ParameterError: the names are not seven different ones.
        """
        names = [name for name in values["arm_joint_names"] if name]
        if names and (len(names) != 7 or len(set(names)) != 7):
            raise ParameterError(
                f"parameter arm_joint_names: {names} are {len(set(names))} different names; give "
                "7, joints 1 to 6 and the gripper, or none"
            )
        self.names = {arm: tuple(names) or ARM_JOINTS[arm] for arm in ARMS}
        self.gripper_scale = float(values["gripper_scale"])


class JointStateSource:
    """Subscribes to the joint states and hands them on under the names of ``robot.joints``.

    With ``arm_joint_states`` both arms are joined: each message of one arm goes out with the
    newest of the other and the older stamp of the two, so a silent arm makes both old.
    """

    def __init__(
        self,
        node: Node | WholeMessages,
        values: Mapping[str, Any],
        take: Callable[[JointState], None],
    ) -> None:
        """Call ``take`` with each JointState; it may hold more joints than the 14."""
        self._take = take
        self._arms = ArmNames(values)
        self._newest: dict[str, JointState] = {}
        if not values["arm_joint_states"]:
            self.topics: tuple[str, ...] = (WHOLE,)
            node.create_subscription(JointState, WHOLE, take, qos.SENSOR)
            return
        self.topics = tuple(f"{arm}_arm/joint_states" for arm in ARMS)
        for arm, topic in zip(ARMS, self.topics, strict=True):
            node.create_subscription(
                JointState, topic, lambda message, arm=arm: self._join(arm, message), qos.SENSOR
            )

    def clear(self) -> None:
        """Forget both arms: the clock jumped or the robot was put elsewhere."""
        self._newest.clear()

    def _join(self, arm: str, message: JointState) -> None:
        self._newest[arm] = message
        if len(self._newest) < len(ARMS):
            return
        joined = JointState()
        stamps = [state.header.stamp for state in self._newest.values()]
        joined.header.stamp = min(stamps, key=lambda stamp: (stamp.sec, stamp.nanosec))
        for side in ARMS:
            translate(self._newest[side], self._arms, side, joined)
        self._take(joined)


def translate(message: JointState, arms: ArmNames, arm: str, into: JointState) -> None:
    """Append one arm's joints to ``into`` under our names; a missing joint is left out."""
    at = {name: index for index, name in enumerate(message.name)}
    for own, foreign in zip(ARM_JOINTS[arm], arms.names[arm], strict=True):
        index = at.get(foreign)
        if index is None or index >= len(message.position):
            continue
        scale = arms.gripper_scale if own == ARM_JOINTS[arm][-1] else 1.0
        into.name.append(own)
        into.position.append(message.position[index] / scale)
        moving = index < len(message.velocity)
        into.velocity.append(message.velocity[index] / scale if moving else 0.0)
