"""Transforms and description of the robot, where no robot_state_publisher runs."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.parameters import ParameterError
from dfm_vla_ros.robot.kinematics import Kinematics, quaternion

Array = NDArray[np.float64]

MOVING = QoSProfile(
    reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST, depth=100
)
FIXED = QoSProfile(
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
)


class Transforms:
    """Publishes ``tf``, ``tf_static`` and ``robot_description``."""

    def __init__(self, node: Node, urdf: str, kinematics: Kinematics) -> None:
        """Publish what never moves.

        Raises:
            ParameterError: tf2_msgs is not installed.
        """
        try:
            from tf2_msgs.msg import TFMessage
        except ModuleNotFoundError as error:
            raise ParameterError(
                "parameter publish_tf: true needs tf2_msgs, which a ROS installation has: source "
                "it, or set publish_tf to false (the markers need no transforms)"
            ) from error
        self._kinematics, self._message = kinematics, TFMessage
        self._moving = [link for link in kinematics.links[1:] if link not in kinematics.fixed]
        self._topic = node.create_publisher(TFMessage, "tf", MOVING)
        self._fixed_topic = node.create_publisher(TFMessage, "tf_static", FIXED)
        self._description = node.create_publisher(String, "robot_description", qos.STATUS)
        self._description.publish(String(data=urdf))
        fixed = [link for link in kinematics.links[1:] if link in kinematics.fixed]
        rest = np.zeros(kinematics.dimension)
        now = node.get_clock().now().to_msg()
        self._fixed_topic.publish(TFMessage(transforms=transforms(kinematics, fixed, rest, now)))

    def publish(self, positions: Array, stamp: Time) -> None:
        """Publish where the links are at measured ``positions`` (D,)."""
        moved = transforms(self._kinematics, self._moving, positions, stamp)
        self._topic.publish(self._message(transforms=moved))


def transforms(
    kinematics: Kinematics, links: list[str], positions: Array, stamp: Time
) -> list[TransformStamped]:
    """Return each link's transform from its parent at ``positions`` (D,)."""
    poses = kinematics.poses(positions)
    made = []
    for link in links:
        parent = kinematics.parents[link]
        at = np.linalg.inv(poses[parent]) @ poses[link]
        message = TransformStamped(child_frame_id=link)
        message.header.frame_id, message.header.stamp = parent, stamp
        for axis, value in zip("xyz", at[:3, 3].tolist(), strict=True):
            setattr(message.transform.translation, axis, value)
        for axis, value in zip("xyzw", quaternion(at[:3, :3]).tolist(), strict=True):
            setattr(message.transform.rotation, axis, value)
        made.append(message)
    return made
