"""What the nodes hear: cameras, joint states, the task and the executor, with their faults."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState

from dfm_vla_ros.msg import ExecutorStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.lifecycle import Parameter
from dfm_vla_ros.nodes.messages import to_rgb
from dfm_vla_ros.observing.observer import TASK_STATUS, Observer
from dfm_vla_ros.observing.sources import (
    ARM_TOPICS,
    WHOLE,
    ArmJoiner,
    ArmNames,
    JointMessage,
    ObserverSettings,
    TimeBase,
)
from dfm_vla_ros.robot.chunks import ChunkRefused
from dfm_vla_ros.robot.freshness import AHEAD_S, Freshness, Moment
from dfm_vla_ros.robot.progress import Progress

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


class LiveObserver(Observer):
    """Subscribes to cameras, joints and the task; knows what time it is.

    It counts messages that are torn; rclpy itself drops them without a word.
    """

    def __init__(
        self,
        node: Node,
        time_base: TimeBase,
        settings: ObserverSettings,
        on_image: Callable[[], None],
    ) -> None:
        """Call ``on_image`` after each image of the triggering camera."""
        super().__init__(time_base, settings, to_rgb)
        self._node, self._on_image = node, on_image
        for topic, kind in self.topics.items():
            take = partial(self._take, topic, message_type(kind))
            profile = qos.STATUS if topic == TASK_STATUS else qos.SENSOR
            node.create_subscription(message_type(kind), topic, take, profile, raw=True)

    def _take(self, topic: str, kind: type, serialized: bytes) -> None:
        try:
            message = deserialize_message(serialized, kind)
        except Exception as error:  # noqa: BLE001 - rclpy raises RuntimeError and others
            self.refuse(topic, f"torn message of {len(serialized)} bytes: {error}")
            return
        if self.feed(topic, message, self.now()):
            self._on_image()

    def now(self) -> Moment:
        """Return the present on both clocks."""
        ros_ns = self._node.get_clock().now().nanoseconds
        return Moment(self._time.from_nanoseconds(ros_ns), time.monotonic())


def message_type(kind: str) -> type:
    """Return the class of a type like ``sensor_msgs/msg/Image``."""
    package, folder, name = kind.split("/")
    return getattr(import_module(f"{package}.{folder}"), name)


class JointStateHealth:
    """Counts joint states and remembers when the newest usable one was made and came."""

    def __init__(self, maximum_age_s: float) -> None:
        """Know none yet."""
        self._fresh = Freshness(maximum_age_s, decimals=3)
        self.fault = ""
        """Why the newest message was not taken; empty if it was."""
        self.count = self.refused = 0

    def take(
        self,
        message: JointState,
        measure: Callable[[list[str], list[float], float], None],
        stamp_s: float,
        now: Moment,
    ) -> bool:
        """Hand a message to ``measure``; return whether it is the first with this fault."""
        self.count += 1
        before, self.fault = self.fault, ""
        try:
            if stamp_s - now.ros_s > AHEAD_S:
                self.fault = (
                    f"joint states are stamped {stamp_s - now.ros_s:.3g} s ahead: synchronise the "
                    "clocks"
                )
            else:
                measure(message.name, message.position, stamp_s)
        except ChunkRefused as refusal:
            self.fault = str(refusal)
        if not self.fault:
            self._fresh.renew(stamp_s, now.steady_s)
            return False
        self.refused += 1
        return self.fault != before

    def forget(self) -> None:
        """Take none that came so far for current: the clock jumped."""
        self._fresh.clear()

    def age_s(self, now: Moment) -> float:
        """Return the larger age by stamp and by arrival [s]; infinite before the first."""
        return self._fresh.age_s(now)

    def problem(self, now: Moment) -> str:
        """Return how old they are and why, if they are too old; else an empty text."""
        stale = self._fresh.problem(now)
        if not stale:
            return ""
        why = self.fault or "is the robot publishing joint_states?"
        if self.age_s(now) == float("inf"):
            return f"no usable joint states yet: {why}"
        return f"the newest joint states are {stale}: {why}"


STATUS = "executor_node/status"
BARRING = (ExecutorStatus.NOT_ACTIVE, ExecutorStatus.CONFLICT)
SILENCE_S = 2.5
"""Real time without a status, which comes at 1 Hz, or without the executor being active."""


class ExecutorHealth:
    """Keeps the executor's newest status and says what it means for a goal."""

    def __init__(self, node: Node, time_base: TimeBase, on_status: Callable[[], None]) -> None:
        """Call ``on_status`` after each."""
        self._time, self._on_status = time_base, on_status
        self.status: ExecutorStatus | None = None
        self.restarts = 0
        """How often another process answered than before."""
        self._heard, self._able = Freshness(SILENCE_S), Freshness(SILENCE_S)
        node.create_subscription(ExecutorStatus, STATUS, self._take, qos.STATUS)

    @property
    def progress(self) -> Progress | None:
        """The phase of the chunk that the executor follows, None before the first status."""
        status = self.status
        if status is None:
            return None
        return Progress(
            status.goal_id,
            status.chunk_id,
            self._time.seconds(status.step_zero),
            status.step_period,
            status.last_step,
        )

    @property
    def stopped(self) -> str:
        """Why chunks are refused until somebody resumes; empty if they are not."""
        status = self.status
        if status is None or status.state != ExecutorStatus.STOPPED:
            return ""
        reason = status.stop_reason or "no reason given"
        return f"the arms are stopped ({reason}): call executor_node/resume, then send the goal"

    @property
    def refused(self) -> int:
        """Chunks that it has refused so far."""
        return 0 if self.status is None else self.status.refused

    def refusal_since(self, refused: int) -> str:
        """Return why it takes no chunk of this goal more, or an empty text.

        After a stop that is over, or somebody else's commands, it waits for a new goal.

        Args:
            refused: ``self.refused`` when the goal began.
        """
        status = self.status
        if status is None or status.refused <= refused or status.error_code not in BARRING:
            return ""
        unready = status.state in (ExecutorStatus.INACTIVE, ExecutorStatus.WAITING)
        return "" if unready else f"{STATUS}: {status.message}"

    def problem(self) -> str:
        """Return why a chunk would be in vain, or an empty text."""
        if self.status is None or self.status.state == ExecutorStatus.INACTIVE:
            return self._absence()
        if self.status.state == ExecutorStatus.WAITING:
            return f"{STATUS}: the executor waits for joint states, or was activated just now"
        return ""

    def loss(self, since_s: float, restarts: int) -> str:
        """Return why a goal that began at ``since_s`` (steady clock) has lost the executor.

        Args:
            since_s: when it began [s].
            restarts: ``self.restarts`` then.
        """
        if self.restarts != restarts:
            return "the executor was restarted, or a second one runs: send the goal again"
        now = Moment(0.0, time.monotonic())
        silent_s = min(self._able.age_s(now), now.steady_s - since_s)
        if silent_s <= SILENCE_S:
            return ""
        return f"{self._absence()} for {silent_s:.1f} s: start or activate it"

    def _absence(self) -> str:
        if self._heard.age_s(Moment(0.0, time.monotonic())) <= SILENCE_S:
            return f"{STATUS}: the executor is inactive"
        return f"{STATUS}: no message"

    def _take(self, message: ExecutorStatus) -> None:
        before, self.status = self.status, message
        self._heard.renew(came_s=time.monotonic())
        if message.state != ExecutorStatus.INACTIVE:
            self._able.renew(came_s=time.monotonic())
        if before is not None and before.run_id != message.run_id:
            self.restarts += 1
        self._on_status()
