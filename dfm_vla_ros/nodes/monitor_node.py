"""``monitor_node``: what the policy plans and does, as markers and as an annotated view.

It publishes nothing that a robot follows, and works out nothing while nobody looks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from visualization_msgs.msg import Marker, MarkerArray

from dfm_vla_ros.msg import ActionChunk, ExecutorStatus, PolicyStatus, PolicyTrace
from dfm_vla_ros.nodes import inputs, qos
from dfm_vla_ros.nodes.clock import StampBase
from dfm_vla_ros.nodes.inputs import message_type
from dfm_vla_ros.nodes.lifecycle import Parameter, ParameterError, declare, run
from dfm_vla_ros.nodes.messages import fill, to_rgb
from dfm_vla_ros.nodes.monitor_drawing import (
    PATHS,
    Ghost,
    Look,
    Pinhole,
    annotate,
    deleted,
    drawings,
    enlarged,
    executed_markers,
    plan_markers,
    texts,
)
from dfm_vla_ros.nodes.monitor_scene import MonitorScene
from dfm_vla_ros.observing.cameras import TRANSPORTS
from dfm_vla_ros.observing.observer import TASK_STATUS, Observer
from dfm_vla_ros.observing.sources import COMMANDED, MEASURED, TRIGGER, Moment, ObserverSettings
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.model import RobotModel
from dfm_vla_ros.tokens import load_action_tokenizer

Array = NDArray[np.float64]

MOVING = QoSProfile(
    reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST, depth=100
)


class Transforms:
    """Publishes ``tf``, ``tf_static`` and ``robot_description``."""

    def __init__(self, node: Node, robot: RobotModel) -> None:
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
        self._robot, self._message = robot, TFMessage
        self._moving = [link for link in robot.links[1:] if link not in robot.fixed]
        self._topic = node.create_publisher(TFMessage, "tf", MOVING)
        self._fixed_topic = node.create_publisher(TFMessage, "tf_static", qos.STATUS)
        self._description = node.create_publisher(String, "robot_description", qos.STATUS)
        self._description.publish(String(data=robot.urdf))
        fixed = [link for link in robot.links[1:] if link in robot.fixed]
        rest = np.zeros(len(robot.joint_names))
        now = node.get_clock().now().to_msg()
        self._fixed_topic.publish(TFMessage(transforms=transforms(robot, fixed, rest, now)))

    def publish(self, positions: Array, stamp: Time) -> None:
        """Publish where the links are at measured ``positions`` (D,)."""
        moved = transforms(self._robot, self._moving, positions, stamp)
        self._topic.publish(self._message(transforms=moved))


def transforms(
    robot: RobotModel, links: list[str], positions: Array, stamp: Time
) -> list[TransformStamped]:
    """Return each link's transform from its parent at ``positions`` (D,)."""
    poses = robot.poses(positions)
    made, parents = [], robot.parents
    for link in links:
        parent = parents[link]
        at = np.linalg.inv(poses[parent]) @ poses[link]
        turn = Rotation.from_matrix(at[:3, :3])
        message = TransformStamped(child_frame_id=link)
        message.header.frame_id, message.header.stamp = parent, stamp
        for axis, value in zip("xyz", at[:3, 3].tolist(), strict=True):
            setattr(message.transform.translation, axis, value)
        for axis, value in zip("xyzw", turn.as_quat(canonical=True).tolist(), strict=True):
            setattr(message.transform.rotation, axis, value)
        made.append(message)
    return made


PARAMETERS = (
    Parameter("checkpoint", "", "checkpoint folder with the action tokenizer; empty: the shipped"),
    Parameter("robot_description", "", "URDF text: links, shapes; empty: the shipped dual arm"),
    Parameter("rate", 10.0, "[Hz] of markers and image", (0.5, 50.0)),
    Parameter("trace", True, "false: plans without refinement and confidence"),
    Parameter("trail", 5.0, "[s] of the executed path", (0.1, 600.0)),
    Parameter("lifetime", 2.0, "[s] after which a marker ends that is not renewed", (0.2, 60.0)),
    Parameter("sure_confidence", 0.3, "probability of a token drawn green", (0.001, 1.0)),
    Parameter("ghost", True, "true: the commanded robot as see-through bodies"),
    Parameter("image_width", 480, "[px] of the annotated view", (64, 1920)),
    Parameter("publish_tf", False, "true: tf and robot_description, without another publisher"),
    Parameter(
        "image_transport",
        "raw",
        "raw, or compressed: subscribe image_raw/compressed",
        choices=tuple(TRANSPORTS),
    ),
    *inputs.PARAMETERS,
)
CAMERA = f"{TRIGGER}_camera"
JOINT_TOPICS = (MEASURED, COMMANDED)


class MonitorNode(Node):
    """Feeds a `MonitorScene` and shows it at a steady rate of real time."""

    def __init__(self) -> None:
        """Subscribe and begin to show."""
        super().__init__("monitor_node")
        values = self._values = declare(self, PARAMETERS)
        self._robot = RobotModel(values["robot_description"])
        tokenizer = load_action_tokenizer(
            Path(values["checkpoint"] or resource_path("checkpoints/default"))
        )
        self._scene = MonitorScene(tokenizer, self._robot, values["trail"])
        self._look = Look(self._robot.root, values["lifetime"], values["sure_confidence"])
        self._ghost = Ghost(self._robot) if values["ghost"] else None
        self._tf = Transforms(self, self._robot) if values["publish_tf"] else None
        self._camera: Pinhole | None = None
        self._trace: Subscription | None = None
        self._make_topics()
        self.create_timer(
            1 / values["rate"], self._show, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def _make_topics(self) -> None:
        self._markers = self.create_publisher(MarkerArray, "~/markers", qos.SENSOR_SOURCE)
        self._image_topic = self.create_publisher(Image, "~/image", qos.SENSOR_SOURCE)
        self._time = StampBase()
        settings = ObserverSettings(
            transport=self._values["image_transport"], joint_states=self._values
        )
        self._observer = Observer(self._time, settings, to_rgb)
        for topic, kind in self._observer.topics.items():
            if "_camera/" in topic and not topic.startswith(CAMERA):
                continue
            profile = qos.STATUS if topic == TASK_STATUS else qos.SENSOR
            self.create_subscription(message_type(kind), topic, self._feeder(topic), profile)
        scene = self._scene
        for kind, topic, take, profile in (
            (ActionChunk, "action_chunk", scene.take_chunk, qos.EVERY_COMMAND),
            (PolicyStatus, "policy_node/status", scene.take_policy, qos.STATUS),
            (ExecutorStatus, "executor_node/status", scene.take_executor, qos.STATUS),
            (CameraInfo, f"{CAMERA}/camera_info", self._take_info, qos.SENSOR),
        ):
            self.create_subscription(kind, topic, take, profile)

    def _feeder(self, topic: str) -> Callable[[Any], None]:
        def feed(message: Any) -> None:
            now_s = self._time.from_nanoseconds(self.get_clock().now().nanoseconds)
            self._observer.feed(topic, message, Moment(now_s, time.monotonic()))
            if topic == TASK_STATUS:
                self._scene.take_task(message)
            elif "_camera/" not in topic and topic != COMMANDED:
                self._take_joints()

        return feed

    def _take_joints(self) -> None:
        measured = self._observer.sources[MEASURED]
        if measured.value is None:
            return
        self._scene.take_joints(measured.value, measured.stamp_s)
        if self._tf is not None:
            self._tf.publish(measured.value, self._time.stamp(measured.stamp_s))

    def _take_info(self, info: CameraInfo) -> None:
        frame, links = info.header.frame_id, self._robot.links
        if self._camera is not None or frame not in links or not info.width or not info.k[0]:
            return
        rest = np.zeros(len(self._robot.joint_names))
        self._camera = Pinhole(
            np.reshape(info.k, (3, 3)),
            (info.width, info.height),
            self._robot.poses(rest, (frame,))[frame],
        )

    def _show(self) -> None:
        looked_at = [
            topic.get_subscription_count() for topic in (self._markers, self._image_topic)
        ]
        self._follow_trace(any(looked_at) and self._values["trace"])
        if looked_at[0]:
            self._markers.publish(MarkerArray(markers=self._made_markers()))
        if looked_at[1]:
            self._publish_image()

    def _follow_trace(self, wanted: bool) -> None:
        """Subscribe to the trace only while somebody looks: the policy makes none otherwise."""
        if wanted == (self._trace is not None):
            return
        if wanted:
            self._trace = self.create_subscription(
                PolicyTrace, "policy_node/trace", self._scene.take_trace, qos.EVERY_COMMAND
            )
        else:
            self.destroy_subscription(self._trace)
            self._trace = None

    def _made_markers(self) -> list[Marker]:
        scene, look, stamp = self._scene, self._look, self.get_clock().now().to_msg()
        markers = [
            *executed_markers(scene.trail, look, stamp),
            *texts(scene.lines(), look, stamp),
        ]
        if scene.plan_is_new:
            scene.plan_is_new = False
            shown = scene.plan
            markers += (
                deleted(PATHS, look, stamp) if shown is None else plan_markers(shown, look, stamp)
            )
        commanded = self._observer.sources[COMMANDED].value
        if self._ghost is not None and commanded is not None:
            markers += self._ghost.markers(commanded, look, stamp)
        return markers

    def _publish_image(self) -> None:
        source = self._observer.sources[CAMERA]
        if source.value is None:
            return
        width = self._values["image_width"]
        size = (width, enlarged(source.value.shape[:2], width))
        scene = self._scene
        drawn = []
        if self._camera is not None:
            drawn = drawings(self._camera, size, scene.plan, scene.trail, self._look)
        lines = [line for line in scene.lines() if line[0]]
        message = Image()
        fill(message, annotate(source.value, width, lines, scene.progress, drawn))
        message.header.stamp = self._time.stamp(source.stamp_s)
        message.header.frame_id = f"{CAMERA}_optical_frame"
        self._image_topic.publish(message)


def main() -> int:
    """Run the node."""
    return run(MonitorNode)


if __name__ == "__main__":
    sys.exit(main())
