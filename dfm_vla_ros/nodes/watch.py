"""What the policy node sees: subscriptions that keep the newest message of each source."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState

from dfm_vla_ros.msg import TaskStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.compressed import decompress
from dfm_vla_ros.nodes.episodes import EpisodeWatch
from dfm_vla_ros.nodes.frozen import FrozenWatch
from dfm_vla_ros.nodes.images import ImageRefused, Rgb, to_rgb
from dfm_vla_ros.nodes.joint_states import JointStateSource
from dfm_vla_ros.nodes.sources import Array, Bounds, JointTrack, Moment, Source, ordered
from dfm_vla_ros.nodes.stamps import TimeBase
from dfm_vla_ros.nodes.whole_messages import WholeMessages
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES

IS_GRIPPER = np.array([name.endswith("gripper") for name in JOINT_NAMES])
TRIGGER = "third"
"""The camera whose images start inferences."""
MEASURED, COMMANDED = "joint_states", "commanded_joint_states"
SOURCES = (*(f"{camera}_camera" for camera in CAMERAS), MEASURED, COMMANDED)
TRANSPORTS = {
    "raw": ("image_raw", Image, to_rgb),
    "compressed": ("image_raw/compressed", CompressedImage, decompress),
}


@dataclass(frozen=True)
class WatchSettings:
    """What an observation must keep.

    Attributes:
        bounds: of each of SOURCES.
        tracking_rad: largest distance of an arm joint from its command [rad].
        frozen_timeout_s: how long a picture may repeat while arms move; 0: for ever [s].
        frozen_motion_rad: what counts as moving [rad].
        transport: of images, a key of TRANSPORTS.
        joint_states: the parameters of ``joint_states.PARAMETERS``.
    """

    bounds: Mapping[str, Bounds]
    tracking_rad: float
    frozen_timeout_s: float
    frozen_motion_rad: float
    transport: str
    joint_states: Mapping[str, Any]


class Watch:
    """Subscribes to cameras, joints and the task; makes observations of the newest."""

    def __init__(
        self, node: Node, time_base: TimeBase, settings: WatchSettings, on_image: Callable
    ) -> None:
        """Call ``on_image`` after each image of the triggering camera."""
        self._node, self._time = node, time_base
        self._whole = WholeMessages(node, self._refuse_torn)
        self._by_topic: dict[str, Source] = {}
        self._settings, self._on_image = settings, on_image
        self.task: TaskStatus | None = None
        self._episode = EpisodeWatch()
        self._valid_from_s = float("-inf")
        self._images: dict[str, Source[Rgb]] = {}
        self._frozen: dict[str, FrozenWatch] = {}
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._joints: dict[str, Source[Array]] = {}
        self._tracks = {topic: JointTrack() for topic in (MEASURED, COMMANDED)}
        # The trigger last: what came before its image is there when it starts an inference.
        for camera in sorted(CAMERAS, key=lambda name: name == TRIGGER):
            self._watch_camera(camera)
        for topic in self._tracks:
            self._joints[topic] = Source(topic, settings.bounds[topic])
        self._states = JointStateSource(
            self._whole,
            settings.joint_states,
            lambda message: self._take_joints(MEASURED, message),
        )
        self._by_topic.update(dict.fromkeys(self._states.topics, self._joints[MEASURED]))
        self._by_topic[COMMANDED] = self._joints[COMMANDED]
        self._joints[MEASURED].name = " and ".join(self._states.topics)
        self._subscribe(JointState, COMMANDED, self._take_joints, COMMANDED)
        node.create_subscription(TaskStatus, "task_status", self._take_task, qos.STATUS)
        cameras = {f"{camera}_camera": source for camera, source in self._images.items()}
        self.sources: dict[str, Source] = {**cameras, **self._joints}
        """Under the names of SOURCES."""

    def _watch_camera(self, camera: str) -> None:
        settings = self._settings
        suffix, kind, _ = TRANSPORTS[settings.transport]
        topic = f"{camera}_camera/{suffix}"
        self._images[camera] = Source(topic, settings.bounds[f"{camera}_camera"])
        self._by_topic[topic] = self._images[camera]
        self._frozen[camera] = FrozenWatch(
            settings.frozen_timeout_s, settings.frozen_motion_rad, joints_moving(camera)
        )
        self._subscribe(kind, topic, self._take_image, camera)

    def _subscribe(self, kind: type, topic: str, take: Callable, key: str) -> None:
        self._whole.create_subscription(
            kind, topic, lambda message: take(key, message), qos.SENSOR
        )

    def _refuse_torn(self, topic: str, why: str) -> None:
        self._by_topic[topic].refuse(why)

    def now(self) -> Moment:
        """Return the present on both clocks."""
        ros_ns = self._node.get_clock().now().nanoseconds
        return Moment(self._time.from_nanoseconds(ros_ns), time.monotonic())

    @property
    def image_stamp_s(self) -> float:
        """When the newest triggering image was taken [s]."""
        return self._images[TRIGGER].stamp_s

    def complaint(self) -> str:
        """Return what is missing, too old, frozen or unusable, or an empty text."""
        now = self.now()
        complaints = [text for name in SOURCES if (text := self.complaint_of(name, now))]
        return "; ".join(complaints) or self._tracking_complaint()

    def complaint_of(self, name: str, now: Moment) -> str:
        """Return what is wrong with one of SOURCES, or an empty text."""
        source = self.sources[name]
        complaint = source.complaint(now)
        camera = name.removesuffix("_camera")
        if complaint or camera not in self._frozen:
            return complaint
        frozen = self._frozen[camera].complaint(now)
        return f"{source.name} is {frozen}" if frozen else ""

    def _tracking_complaint(self) -> str:
        """Return which arm joint is far from its command: the executor follows another robot."""
        measured, commanded = (self._joints[topic].value for topic in self._tracks)
        error = np.where(IS_GRIPPER, 0.0, np.abs(measured - commanded))
        joint = int(np.argmax(error))
        if error[joint] <= self._settings.tracking_rad:
            return ""
        return (
            f"{JOINT_NAMES[joint]} is {error[joint]:.2f} rad from its command, allowed is "
            f"{self._settings.tracking_rad} rad: does the robot follow? If it was moved, "
            "deactivate and activate executor_node"
        )

    def observation(self, instruction: str) -> Observation:
        """Return what was seen at the newest triggering image; call it without a complaint."""
        at_s = self.image_stamp_s
        return Observation(
            images={camera: source.value for camera, source in self._images.items()},
            positions=self._tracks[MEASURED].at(at_s),
            commanded=self._tracks[COMMANDED].at(at_s),
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

    def clear(self) -> None:
        """Forget every message: they are of another episode, or of another time."""
        for source in self.sources.values():
            source.clear()
        for kept in (*self._tracks.values(), *self._frozen.values(), self._states):
            kept.clear()
        self.forget_sizes()

    def forget_sizes(self) -> None:
        """Take images of any size from now on; the first of each camera sets its size."""
        self._sizes.clear()

    def jump_back(self) -> None:
        """Forget what was stamped by a clock that has gone backward since."""
        self.clear()
        self.task, self._episode, self._valid_from_s = None, EpisodeWatch(), float("-inf")

    def _take_image(self, camera: str, message: Image | CompressedImage) -> None:
        source, stamp_s = self._images[camera], self._time.seconds(message.header.stamp)
        if stamp_s < self._valid_from_s:
            return
        try:
            pixels = TRANSPORTS[self._settings.transport][2](message)
            self._check_size(camera, pixels)
        except ImageRefused as error:
            source.refuse(str(error))
            return
        now = self.now()
        source.put(pixels, stamp_s, now)
        self._frozen[camera].look(pixels, now)
        if camera == TRIGGER:
            self._align(stamp_s)
            self._on_image()

    def _check_size(self, camera: str, pixels: Rgb) -> None:
        """Refuse an image of another size than the first: a second camera, or another mode."""
        height, width = pixels.shape[:2]
        first = self._sizes.setdefault(camera, (height, width))
        if (height, width) != first:
            raise ImageRefused(
                f"an image of {width}x{height}, those before were {first[1]}x{first[0]}: does a "
                "second camera publish? A new goal takes the new size"
            )

    def _align(self, stamp_s: float) -> None:
        """Note how far each source is from the third view just come."""
        for source in self._images.values():
            source.align(source.stamp_s - stamp_s)
        for topic, track in self._tracks.items():
            self._joints[topic].align(track.distance_s(stamp_s))

    def _take_joints(self, topic: str, message: JointState) -> None:
        source, stamp_s = self._joints[topic], self._time.seconds(message.header.stamp)
        if stamp_s < self._valid_from_s:
            return
        positions = ordered(message.name, message.position, JOINT_NAMES)
        velocities = ordered(message.name, message.velocity, JOINT_NAMES)
        if positions is None:
            source.refuse(f"joints are missing or there twice; it holds {list(message.name)}")
            return
        if not np.isfinite(positions).all():
            joint = int(np.argmin(np.isfinite(positions)))
            source.refuse(f"{JOINT_NAMES[joint]} is {positions[joint]}, not finite")
            return
        source.put(positions, stamp_s, self.now())
        if velocities is None:
            velocities = np.zeros_like(positions)
        finite = np.where(np.isfinite(velocities), velocities, 0.0)
        self._tracks[topic].put(stamp_s, positions, finite)
        if topic == MEASURED:
            for frozen in self._frozen.values():
                frozen.move(positions)

    def _take_task(self, message: TaskStatus) -> None:
        self.task = message
        if self._episode.is_new(message.task, message.seed, message.elapsed):
            self._valid_from_s = self._time.seconds(message.header.stamp)
            self.clear()


def joints_moving(camera: str) -> np.ndarray:
    """Return (D,) True for the joints whose motion ``camera`` must see: an arm's, or all."""
    arm = camera.removesuffix("_wrist")
    seen = [camera == TRIGGER or name.startswith(f"{arm}_") for name in JOINT_NAMES]
    return np.array(seen) & ~IS_GRIPPER
