"""Where plans go: trajectories for controllers, a stream for drivers, or nowhere."""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import Ticker, Timeline
from dfm_vla_ros.nodes.messages import doubles, to_message
from dfm_vla_ros.observing.joints import ArmNames
from dfm_vla_ros.robot.joints import ARM_JOINTS, ARMS, JOINT_NAMES
from dfm_vla_ros.robot.plan import Plan
from dfm_vla_ros.robot.progress import Reference, Trajectory

Array = NDArray[np.float64]

REJOIN_S = 0.1
"""In which a motion that takes over late finds its way onto the plan."""


class Motion:
    """Samples the newest plan that has begun; written by one thread, read by another.

    A plan starts from the state that the one before commands then, so taking over exactly there
    leaves position and velocity without a step. One that comes later than that (busy cores) is
    joined along a cubic: the difference fades to nothing within `REJOIN_S`.
    """

    def __init__(self) -> None:
        """Command nothing yet."""
        self._lock = threading.Lock()
        self._parts: deque[tuple[float, Reference]] = deque()
        self._leave_s = float("inf")
        self._late: tuple[float, Reference] | None = None

    def follow(self, plan: Plan, now_s: float) -> None:
        """Take over where ``plan`` joins what was commanded before, or now if that is past."""
        start_s, spline = plan.start_s, plan.spline
        reference = Reference(spline.positions[0])
        names = plan.joined.joint_names
        curve = Trajectory(names, spline.times_s, spline.positions, spline.velocities)
        reference.replace(curve, start_s, start_s)
        with self._lock:
            if now_s > start_s:
                at_rest = spline.positions[0], np.zeros_like(spline.positions[0])
                before = self._at(now_s) or at_rest
                self._late = (now_s, _fading(before, reference.sample(now_s), names, now_s))
            while self._parts and self._parts[-1][0] >= start_s:
                self._parts.pop()
            self._parts.append((start_s, reference))
            self._leave_s = float("inf")

    def leave(self, at_s: float) -> None:
        """From ``at_s`` on command nothing until the next plan."""
        with self._lock:
            self._leave_s = at_s

    def sample(self, now_s: float) -> tuple[Array, Array] | None:
        """Return position and velocity (D,) commanded at ``now_s``, None if nothing is.

        Before the first plan begins the arms stay where it starts.
        """
        with self._lock:
            return self._at(now_s)

    def _at(self, now_s: float) -> tuple[Array, Array] | None:
        if now_s >= self._leave_s:
            self._parts.clear()
        while len(self._parts) > 1 and self._parts[1][0] <= now_s:
            self._parts.popleft()
        if not self._parts:
            return None
        position, velocity = self._parts[0][1].sample(now_s)
        if self._late is None:
            return position, velocity
        since_s, fading = self._late
        if not since_s <= now_s < since_s + REJOIN_S:
            return position, velocity
        offset, drift = fading.sample(now_s)
        return position + offset, velocity + drift


def _fading(
    before: tuple[Array, Array], after: tuple[Array, Array], names: tuple[str, ...], now_s: float
) -> Reference:
    """Return the difference of two states as a cubic that ends at none."""
    offset, drift = before[0] - after[0], before[1] - after[1]
    none = np.zeros_like(offset)
    times = np.array([0.0, REJOIN_S])
    curve = Trajectory(names, times, np.array([offset, none]), np.array([drift, none]))
    made = Reference(offset)
    made.replace(curve, now_s, now_s)
    return made


OUTPUTS = ("trajectories", "joined_trajectory", "joint_states")
DELIVERY_S = 0.2
"""What the last message has to reach its subscribers before the publisher goes."""
MARGIN_S = 0.01
"""What a late trajectory still needs to its controller."""
HOLD_S = 1.0
"""A trajectory goes on at rest for so long: a controller refuses one that has ended, and a brake
that comes late is better than none."""
SETTLE_S = 1.0
"""A stream may go on so long after it was told to finish: no brake takes longer."""


class Output(Protocol):
    """Takes every plan of the executor, brakes included.

    Attributes:
        topics: relative names of the command topics; the output has one publisher on each.
        published: messages on the first of them so far.
        lost: ticks of a stream that were given up so far.
        rate_hz: at which a stream publishes once it has begun; 0: it publishes when told.
    """

    topics: tuple[str, ...]
    published: int
    lost: int
    rate_hz: float

    def follow(self, plan: Plan) -> None:
        """Command ``plan`` in place of what was commanded before."""

    def leave(self, at_s: float) -> None:
        """From ``at_s`` on publish nothing until the next plan."""

    def stay(self, positions: Array) -> None:
        """Command to stay at ``positions`` (D,) if anything was commanded before."""

    def finish(self, brake: Plan | None, positions: Array | None = None) -> None:
        """Command ``brake``, or to stay at ``positions``, as the last message; then be gone."""


class Nothing:
    """Dry run: no publisher, so nothing can move."""

    topics: tuple[str, ...] = ()
    published = lost = 0
    rate_hz = 0.0

    def follow(self, plan: Plan) -> None:
        """Do nothing."""

    def leave(self, at_s: float) -> None:
        """Do nothing."""

    def stay(self, positions: Array) -> None:
        """Do nothing."""

    def finish(self, brake: Plan | None, positions: Array | None = None) -> None:
        """Do nothing."""


class Trajectories:
    """One JointTrajectory per arm, or one for the joints of both."""

    lost = 0
    rate_hz = 0.0

    def __init__(self, node: Node, timeline: Timeline, joined: bool) -> None:
        """Make the publishers."""
        self._node, self._timeline, self._joined = node, timeline, joined
        names = ("both_arms",) if joined else tuple(f"{arm}_arm" for arm in ARMS)
        self.topics = tuple(f"{name}_controller/joint_trajectory" for name in names)
        self._publishers = [
            node.create_publisher(JointTrajectory, topic, qos.COMMAND) for topic in self.topics
        ]
        self.published = 0

    def follow(self, plan: Plan) -> None:
        """Publish all trajectories with one stamp."""
        parts, late_s = _parts(plan, self._joined), self._timeline.now_s() - plan.start_s
        if late_s > 0:
            after_s = self._timeline.now_s() - plan.stamp_s + MARGIN_S
            parts = [_ahead(part, after_s) for part in parts]
        self._publish(parts, plan.stamp_s)

    def leave(self, at_s: float) -> None:
        """Do nothing: a trajectory ends by itself."""

    def stay(self, positions: Array) -> None:
        """Publish trajectories of one point: what controllers still follow ends."""
        if self.published:
            whole = Trajectory(
                JOINT_NAMES, np.array([MARGIN_S]), positions[None], np.zeros((1, positions.size))
            )
            arms = [arm_part(whole, arm) for arm in ARMS]
            self._publish([whole] if self._joined else arms, self._timeline.now_s())

    def finish(self, brake: Plan | None, positions: Array | None = None) -> None:
        """Publish the last trajectories and wait until they have arrived."""
        if brake is not None:
            self.follow(brake)
        elif positions is not None:
            self.stay(positions)
        for publisher in self._publishers:
            publisher.wait_for_all_acked(Duration(seconds=DELIVERY_S))
            self._node.destroy_publisher(publisher)

    def _publish(self, parts: list[Trajectory], stamp_s: float) -> None:
        stamp = self._timeline.stamp(stamp_s)
        # All are ready before the first goes out: both arms move, or neither.
        messages = [to_message(held(part), stamp) for part in parts]
        for publisher, message in zip(self._publishers, messages, strict=True):
            publisher.publish(message)
        self.published += 1


def held(trajectory: Trajectory) -> Trajectory:
    """Return the trajectory with its last point once more, ``HOLD_S`` later."""
    velocities = trajectory.velocities
    return Trajectory(
        trajectory.joint_names,
        np.append(trajectory.times_s, trajectory.times_s[-1] + HOLD_S),
        np.concatenate([trajectory.positions, trajectory.positions[-1:]]),
        None if velocities is None else np.concatenate([velocities, velocities[-1:]]),
    )


def _parts(plan: Plan, joined: bool) -> list[Trajectory]:
    return [plan.joined] if joined else [plan.trajectories[arm] for arm in ARMS]


def _ahead(trajectory: Trajectory, after_s: float) -> Trajectory:
    """Return the points later than ``after_s``, at least the last.

    A controller runs from what it commands to the first point ahead without a step, but jumps onto
    a segment that has begun.
    """
    first = min(int((trajectory.times_s <= after_s).sum()), len(trajectory.times_s) - 1)
    velocities = trajectory.velocities
    return Trajectory(
        trajectory.joint_names,
        trajectory.times_s[first:],
        trajectory.positions[first:],
        None if velocities is None else velocities[first:],
    )


def arm_part(whole: Trajectory, arm: str) -> Trajectory:
    """Return one arm's share of a trajectory of all joints."""
    columns = [JOINT_NAMES.index(name) for name in ARM_JOINTS[arm]]
    positions, velocities = whole.positions[:, columns], whole.velocities[:, columns]
    return Trajectory(ARM_JOINTS[arm], whole.times_s, positions, velocities)


class JointStateStream:
    """JointState messages per arm at a steady rate, under the names that the driver uses.

    Silent before the first plan; from then on it streams the motion and, at rest, the hold.
    """

    def __init__(
        self, node: Node, timeline: Timeline, names: tuple[str, ...], values: Mapping[str, Any]
    ) -> None:
        """Make the publishers and start the clockwork; ``names`` are those of the plans."""
        self._node, self._timeline = node, timeline
        self.topics = tuple(f"{arm}_arm/joint_command" for arm in ARMS)
        self._arms = [_Arm(node, arm, names, values) for arm in ARMS]
        self._motion = Motion()
        self.published = 0
        self.rate_hz = float(values["stream_rate"])
        self._ticker = Ticker(self.rate_hz, self._tick)
        self._ticker.start()

    @property
    def lost(self) -> int:
        """Ticks given up because they were too late."""
        return self._ticker.slipped

    def follow(self, plan: Plan) -> None:
        """Stream ``plan`` from its first point on, without a step."""
        self._motion.follow(plan, self._timeline.now_s())

    def leave(self, at_s: float) -> None:
        """Fall silent at ``at_s`` and forget the motion."""
        self._motion.leave(at_s)

    def stay(self, positions: Array) -> None:
        """Do nothing: no driver follows what is not streamed any more."""

    def finish(self, brake: Plan | None, positions: Array | None = None) -> None:
        """Stream until ``brake`` has ended, then stop."""
        if brake is not None:
            self._motion.follow(brake, self._timeline.now_s())
            until_s = time.monotonic() + SETTLE_S
            while self._timeline.now_s() < brake.end_s and time.monotonic() < until_s:
                time.sleep(1 / self.rate_hz)
            time.sleep(2 / self.rate_hz)  # the hold itself
        self._ticker.stop()
        for arm in self._arms:
            arm.publisher.wait_for_all_acked(Duration(seconds=DELIVERY_S))
            self._node.destroy_publisher(arm.publisher)

    def _tick(self) -> None:
        """Publish what is commanded now (the stream's thread, which must not end)."""
        try:
            now_s = self._timeline.now_s()
            sample = self._motion.sample(now_s)
            if sample is None:
                return
            stamp = self._timeline.stamp(now_s)
            for arm in self._arms:
                arm.publish(*sample, stamp)
            self.published += 1
        except Exception:  # noqa: BLE001 - a driver without stream stops the arm anyhow; say why
            self._node.get_logger().error(
                f"stream: {traceback.format_exc()}", throttle_duration_sec=1.0
            )


class _Arm:
    """The stream of one arm."""

    def __init__(
        self, node: Node, arm: str, names: tuple[str, ...], values: Mapping[str, Any]
    ) -> None:
        foreign = ArmNames(values)
        self.publisher = node.create_publisher(JointState, f"{arm}_arm/joint_command", qos.COMMAND)
        self._columns = [names.index(name) for name in ARM_JOINTS[arm]]
        self._scale = np.ones(len(self._columns))
        self._scale[-1] = foreign.gripper_scale
        self._message = JointState(name=list(foreign.names[arm]))
        self._with_velocities = values["stream_velocities"]

    def publish(self, positions: np.ndarray, velocities: np.ndarray, stamp: Any) -> None:
        """Publish this arm's share of (D,) positions and velocities."""
        message = self._message
        message.header.stamp = stamp
        message.position = doubles(positions[self._columns] * self._scale)
        if self._with_velocities:
            message.velocity = doubles(velocities[self._columns] * self._scale)
        self.publisher.publish(message)


def make_output(node: Node, timeline: Timeline, values: Mapping[str, Any]) -> Output:
    """Return the output that the executor's parameters ask for; it has its publishers."""
    if not values["publish_commands"]:
        return Nothing()
    if values["output"] == "joint_states":
        return JointStateStream(node, timeline, JOINT_NAMES, values)
    return Trajectories(node, timeline, values["output"] == "joined_trajectory")
