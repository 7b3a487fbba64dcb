"""What the policy node sees: subscriptions that keep the newest message of each source."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from dfm_vla_ros.msg import TaskStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.episodes import EpisodeWatch
from dfm_vla_ros.nodes.images import ImageRefused, Rgb, to_rgb
from dfm_vla_ros.nodes.sources import Array, JointTrack, Moment, Source, ordered
from dfm_vla_ros.nodes.stamps import TimeBase
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.robot.joints import JOINT_NAMES

IS_GRIPPER = np.array([name.endswith("gripper") for name in JOINT_NAMES])
TRIGGER = "third"
"""The camera whose images start inferences."""


@dataclass(frozen=True)
class Bounds:
    """What an observation must keep.

    Attributes:
        age_s: largest age of any of its messages [s].
        tracking_rad: largest distance of an arm joint from its command [rad].
    """

    age_s: float
    tracking_rad: float


class Watch:
    """Subscribes to cameras, joints and the task; makes observations of the newest."""

    def __init__(
        self,
        node: Node,
        time_base: TimeBase,
        cameras: tuple[str, ...],
        bounds: Bounds,
        on_image: Callable[[], None],
    ) -> None:
        """Call ``on_image`` after each image of the triggering camera."""
        self._node, self._time = node, time_base
        self._bounds = bounds
        self._on_image = on_image
        self.task: TaskStatus | None = None
        self._episode = EpisodeWatch()
        self._valid_from_s = float("-inf")
        self._images: dict[str, Source[Rgb]] = {}
        self._joints: dict[str, Source[Array]] = {}
        self._tracks = {
            topic: JointTrack() for topic in ("joint_states", "commanded_joint_states")
        }
        for camera in sorted({*cameras, TRIGGER}, key=lambda name: name == TRIGGER):
            topic = f"{camera}_camera/image_raw"
            self._images[camera] = Source(topic, bounds.age_s)
            self._subscribe(Image, topic, self._take_image, camera)
        for topic in self._tracks:
            self._joints[topic] = Source(topic, bounds.age_s)
            self._subscribe(JointState, topic, self._take_joints, topic)
        node.create_subscription(TaskStatus, "task_status", self._take_task, qos.STATUS)

    def _subscribe(self, kind: type, topic: str, take: Callable, key: str) -> None:
        self._node.create_subscription(kind, topic, lambda message: take(key, message), qos.SENSOR)

    def now(self) -> Moment:
        """Return the present on both clocks."""
        ros_ns = self._node.get_clock().now().nanoseconds
        return Moment(self._time.from_nanoseconds(ros_ns), time.monotonic())

    @property
    def image_stamp_s(self) -> float:
        """When the newest triggering image was taken [s]."""
        return self._images[TRIGGER].stamp_s

    def complaint(self) -> str:
        """Return what is missing, too old or unusable, or an empty text."""
        now = self.now()
        complaints = [s.complaint(now) for s in (*self._images.values(), *self._joints.values())]
        return "; ".join(text for text in complaints if text) or self._tracking_complaint()

    def _tracking_complaint(self) -> str:
        """Return which arm joint is far from its command: the executor follows another robot."""
        measured, commanded = (self._joints[topic].value for topic in self._tracks)
        error = np.where(IS_GRIPPER, 0.0, np.abs(measured - commanded))
        joint = int(np.argmax(error))
        if error[joint] <= self._bounds.tracking_rad:
            return ""
        return (
            f"{JOINT_NAMES[joint]} is {error[joint]:.2f} rad from its command, allowed is "
            f"{self._bounds.tracking_rad} rad: does the robot follow?"
        )

    def observation(self, instruction: str) -> Observation:
        """Return what was seen at the newest triggering image; call it without a complaint."""
        at_s = self.image_stamp_s
        return Observation(
            images={camera: source.value for camera, source in self._images.items()},
            positions=self._tracks["joint_states"].at(at_s),
            commanded=self._tracks["commanded_joint_states"].at(at_s),
            instruction=instruction,
        )

    def progress(self) -> float:
        """Return the task's progress, 0 if nobody reports one."""
        return 0.0 if self.task is None else float(self.task.progress)

    def succeeded_since(self, since_s: float) -> bool:
        """Return whether the task status, made after ``since_s``, reports success."""
        task = self.task
        if task is None or not task.success:
            return False
        return self._time.seconds(task.header.stamp) >= since_s

    def _take_image(self, camera: str, message: Image) -> None:
        source, stamp_s = self._images[camera], self._time.seconds(message.header.stamp)
        if stamp_s < self._valid_from_s:
            return
        try:
            source.put(to_rgb(message), stamp_s, self.now())
        except ImageRefused as error:
            source.fault = str(error)
            return
        if camera == TRIGGER:
            self._on_image()

    def _take_joints(self, topic: str, message: JointState) -> None:
        source, stamp_s = self._joints[topic], self._time.seconds(message.header.stamp)
        if stamp_s < self._valid_from_s:
            return
        positions = ordered(message.name, message.position, JOINT_NAMES)
        velocities = ordered(message.name, message.velocity, JOINT_NAMES)
        if positions is None:
            source.fault = f"joints are missing; it holds {list(message.name)}"
            return
        if not np.isfinite(positions).all():
            joint = int(np.argmin(np.isfinite(positions)))
            source.fault = f"{JOINT_NAMES[joint]} is {positions[joint]}, not finite"
            return
        source.put(positions, stamp_s, self.now())
        if velocities is None:
            velocities = np.zeros_like(positions)
        finite = np.where(np.isfinite(velocities), velocities, 0.0)
        self._tracks[topic].put(stamp_s, positions, finite)

    def _take_task(self, message: TaskStatus) -> None:
        self.task = message
        if not self._episode.is_new(message.task, message.seed, message.elapsed):
            return
        self._valid_from_s = self._time.seconds(message.header.stamp)
        for source in (*self._images.values(), *self._joints.values()):
            source.clear()
        for track in self._tracks.values():
            track.clear()
