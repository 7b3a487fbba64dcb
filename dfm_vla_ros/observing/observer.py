"""The newest message of each source, and the observation that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dfm_vla_ros.observing.cameras import IS_GRIPPER, Camera, Rgb, to_rgb
from dfm_vla_ros.observing.sources import (
    ARM_TOPICS,
    COMMANDED,
    MEASURED,
    SOURCES,
    TRIGGER,
    WHOLE,
    ArmJoiner,
    ArmNames,
    EpisodeWatch,
    Joints,
    Moment,
    ObserverSettings,
    Source,
    TimeBase,
)
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES

JOINT_STATE = "sensor_msgs/msg/JointState"
TASK_STATUS, TASK_STATUS_KIND = "task_status", "dfm_vla_ros/msg/TaskStatus"

Take = Callable[[Any, float, Moment], bool]


class Observer:
    """Is fed messages, rclpy's or rosbags', and makes observations of the newest.

    Attributes:
        topics: relative topic -> type of what it wants to be fed, in the order to subscribe in:
            the trigger last of the cameras, so what came before its image is there when it
            starts an inference.
        sources: under the names of SOURCES.
        task: the newest TaskStatus.
    """

    def __init__(
        self,
        time_base: TimeBase,
        settings: ObserverSettings | None = None,
        decode: Callable[[Any], Rgb] = to_rgb,
    ) -> None:
        """Know nothing yet; ``decode`` makes RGB of raw images."""
        self._time, self._settings = time_base, settings or ObserverSettings()
        self._cameras = {camera: Camera(camera, self._settings, decode) for camera in CAMERAS}
        self._joints = {
            name: Joints(name, self._settings.bounds[name]) for name in (MEASURED, COMMANDED)
        }
        self._joiner = ArmJoiner(ArmNames(self._settings.joint_states))
        self.sources: Mapping[str, Source] = {
            **{f"{camera}_camera": found.source for camera, found in self._cameras.items()},
            **{name: joints.source for name, joints in self._joints.items()},
        }
        self.topics: dict[str, str] = {}
        self._takes: dict[str, Take] = {}
        self._by_topic: dict[str, Source] = {}
        self._add_topics()
        self.task: Any = None
        self._episode = EpisodeWatch()
        self._valid_from_s = float("-inf")

    def _add_topics(self) -> None:
        for camera in sorted(CAMERAS, key=lambda name: name == TRIGGER):
            found = self._cameras[camera]
            self._add(found.topic, found.kind, found.source, found.take)
        measured, commanded = self._joints[MEASURED], self._joints[COMMANDED]
        if self._settings.joint_states["arm_joint_states"]:
            for topic, arm in ARM_TOPICS.items():
                self._add(topic, JOINT_STATE, measured.source, self._take_arm(arm))
            measured.source.name = " and ".join(ARM_TOPICS)
        else:
            self._add(WHOLE, JOINT_STATE, measured.source, self._take_measured)
        if self._settings.commands:
            self._add(COMMANDED, JOINT_STATE, commanded.source, commanded.take)
        self.topics[TASK_STATUS] = TASK_STATUS_KIND

    def _add(self, topic: str, kind: str, source: Source, take: Take) -> None:
        self.topics[topic], self._by_topic[topic], self._takes[topic] = kind, source, take

    def feed(self, topic: str, message: Any, now: Moment) -> bool:
        """Take a message of one of ``topics`` that came ``now``.

        Returns:
            Whether it is a usable image of the triggering camera: time to look.
        """
        if topic == TASK_STATUS:
            self._take_task(message)
            return False
        stamp_s = self._time.seconds(message.header.stamp)
        if stamp_s < self._valid_from_s:
            return False
        taken = self._takes[topic](message, stamp_s, now)
        if not taken or topic != self._cameras[TRIGGER].topic:
            return False
        self._align(stamp_s)
        return True

    def refuse(self, topic: str, why: str) -> None:
        """Count a message of ``topic`` that was torn on its way."""
        if topic in self._by_topic:
            self._by_topic[topic].refuse(why)

    def _align(self, stamp_s: float) -> None:
        """Note how far each source is from the third view just come."""
        for camera in self._cameras.values():
            camera.source.align(camera.source.stamp_s - stamp_s)
        for joints in self._joints.values():
            joints.source.align(joints.track.distance_s(stamp_s))

    def _take_arm(self, arm: str) -> Take:
        def take(message: Any, _: float, now: Moment) -> bool:
            joined = self._joiner.join(arm, message)
            if joined is None:
                return False
            stamp_s = self._time.seconds(joined.header.stamp)
            return stamp_s >= self._valid_from_s and self._take_measured(joined, stamp_s, now)

        return take

    def _take_measured(self, message: Any, stamp_s: float, now: Moment) -> bool:
        measured = self._joints[MEASURED]
        if not measured.take(message, stamp_s, now):
            return False
        for camera in self._cameras.values():
            camera.move(measured.source.value)
        if not self._settings.commands:
            self._joints[COMMANDED].take(message, stamp_s, now)
        return True

    def _take_task(self, message: Any) -> None:
        self.task = message
        if self._episode.is_new(message.task, message.seed, message.elapsed):
            self._valid_from_s = self._time.seconds(message.header.stamp)
            self.clear()

    @property
    def image_stamp_s(self) -> float:
        """When the newest triggering image was taken [s]."""
        return self._cameras[TRIGGER].source.stamp_s

    def problem(self, now: Moment) -> str:
        """Return what is missing, too old, frozen or unusable, or an empty text."""
        problems = [text for name in SOURCES if (text := self.problem_of(name, now))]
        return "; ".join(problems) or self._tracking_problem()

    def problem_of(self, name: str, now: Moment) -> str:
        """Return what is wrong with one of SOURCES, or an empty text."""
        camera = self._cameras.get(name.removesuffix("_camera"))
        return self.sources[name].problem(now) if camera is None else camera.problem(now)

    def _tracking_problem(self) -> str:
        """Return which arm joint is far from its command: the executor follows another robot."""
        measured, commanded = (self._joints[name].source.value for name in (MEASURED, COMMANDED))
        error = np.where(IS_GRIPPER, 0.0, np.abs(measured - commanded))
        joint, allowed = int(np.argmax(error)), self._settings.tracking_rad
        if error[joint] <= allowed:
            return ""
        return (
            f"{JOINT_NAMES[joint]} is {error[joint]:.2f} rad from its command, allowed is "
            f"{allowed} rad: does the robot follow? If it was moved, deactivate and activate "
            "executor_node"
        )

    def observation(self, instruction: str) -> Observation:
        """Return what was seen at the newest triggering image, when there is no problem."""
        at_s = self.image_stamp_s
        return Observation(
            images={name: camera.source.value for name, camera in self._cameras.items()},
            positions=self._joints[MEASURED].track.at(at_s),
            commanded=self._joints[COMMANDED].track.at(at_s),
            instruction=instruction,
            image_stamps_s={name: camera.source.stamp_s for name, camera in self._cameras.items()},
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
        for kept in (*self._cameras.values(), *self._joints.values(), self._joiner):
            kept.clear()

    def forget_sizes(self) -> None:
        """Take images of any size from now on; the first of each camera sets its size."""
        for camera in self._cameras.values():
            camera.forget_size()

    def jump_back(self) -> None:
        """Forget what was stamped by a clock that has gone backward since."""
        self.clear()
        self.task, self._episode, self._valid_from_s = None, EpisodeWatch(), float("-inf")
