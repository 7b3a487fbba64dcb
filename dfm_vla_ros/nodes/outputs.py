"""What moves the arms: the executor's plans as trajectories for controllers or as a stream."""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import Ticker, Timeline
from dfm_vla_ros.nodes.messages import doubles, to_message
from dfm_vla_ros.observing.sources import ArmNames
from dfm_vla_ros.robot.executor import Executor
from dfm_vla_ros.robot.joints import ARM_JOINTS, ARMS, JOINT_NAMES
from dfm_vla_ros.robot.plan import Plan
from dfm_vla_ros.robot.progress import Account, Reference, Trajectory

Array = NDArray[np.float64]

OUTPUTS = ("trajectories", "joined_trajectory", "joint_states")
REJOIN_S = 0.1
"""In which a motion that takes over late finds its way onto the plan."""
DELIVERY_S = 0.2
"""What the last message has to reach its subscribers before the publisher goes."""
MARGIN_S = 0.01
"""What a late trajectory still needs to its controller."""
HOLD_S = 1.0
"""A trajectory goes on at rest for so long: a controller refuses one that has ended, and a brake
that comes late is better than none."""
SETTLE_S = 1.0
"""A stream may go on so long after it was told to finish: no brake takes longer."""
LAST_S = 0.05
"""How long the hold is told before it is forgotten, and a stream repeats it."""


class Arms:
    """Commands plans, brakes, and forgets where the arms are once they rest.

    Attributes:
        executor: None while the node is unconfigured.
        output: where its plans go; nowhere while the node is inactive.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self.executor: Executor | None = None
        self.output = Output()
        self._forget_s: float | None = None
        self._moved = False

    def begin(self, output: Output, now_s: float) -> None:
        """Command through ``output``, from the next joint states on."""
        self.output = output
        self.reset(now_s)

    def finish(self) -> None:
        """Brake; the hold is the last message."""
        commanded = None if self.executor is None else self.executor.sample(self._timeline.now_s())
        self.output.finish(self._hold(), None if commanded is None else commanded[0])
        self.output = Output()

    def brake(self) -> float:
        """Brake and hold; return when the arms rest."""
        plan = self._hold()
        if plan is None:
            return self._timeline.now_s()
        self.output.follow(plan)
        return plan.end_s

    def stop(self, reason: str) -> None:
        """Brake and take no chunk until the executor is told to resume."""
        if self.executor is None:
            return
        plan = self.executor.stop(reason, self._timeline.now_s())
        if plan is not None:
            self.output.follow(plan)

    def reset(self, since_s: float) -> None:
        """Forget at once: the next joint states from ``since_s`` on say where the arms are."""
        self._forget_s = None
        if self.executor is not None:
            self.executor.reset(since_s)

    def moved(self, since_s: float) -> None:
        """Somebody else put the arms elsewhere at ``since_s``: start anew from there.

        A trajectory that was under way meanwhile ends as soon as it is known where they are.
        """
        self.output.leave(self._timeline.now_s())
        self.reset(since_s)
        self._moved = True

    def forget_at(self, rest_s: float) -> None:
        """Forget where the arms are once they have rested for a moment."""
        self._forget_s = max(rest_s + LAST_S, self._forget_s or rest_s)

    def leave_at(self, rest_s: float) -> None:
        """The same, and let the output repeat the hold for a moment and fall silent."""
        self.output.leave(rest_s + LAST_S)
        self.forget_at(rest_s)

    def tick(self, now_s: float) -> None:
        """Forget if it is time; after `moved` tell controllers to stay where the arms are."""
        if self._moved and self.known:
            self._moved = False
            self.output.stay(self.executor.sample(now_s)[0])
        if self._forget_s is not None and now_s >= self._forget_s:
            self.reset(now_s)

    @property
    def known(self) -> bool:
        """Whether joint states have said where the arms are, and that is not to be forgotten."""
        if self.executor is None or self._forget_s is not None:
            return False
        return self.executor.sample(self._timeline.now_s()) is not None

    @property
    def moving(self) -> bool:
        """Whether a plan is running."""
        return self.executor is not None and self.executor.executing(self._timeline.now_s())

    @property
    def account(self) -> Account:
        """What became of the chunks that the executor got."""
        if self.executor is None:
            return Account()
        return self.executor.account(self._timeline.now_s())

    def _hold(self) -> Plan | None:
        return None if self.executor is None else self.executor.hold(self._timeline.now_s())


class Output:
    """Takes every plan of the executor, brakes included; this one, of a dry run, goes nowhere.

    Attributes:
        topics: relative names of the command topics; the output has one publisher on each.
        published: messages on the first of them so far.
        lost: ticks of a stream that were given up so far.
        rate_hz: at which a stream publishes once it has begun; 0: it publishes when told.
    """

    topics: tuple[str, ...] = ()
    published = lost = 0
    rate_hz = 0.0

    def follow(self, plan: Plan) -> None:
        """Command ``plan`` in place of what was commanded before."""

    def leave(self, at_s: float) -> None:
        """From ``at_s`` on publish nothing until the next plan."""

    def stay(self, positions: Array) -> None:
        """Command to stay at ``positions`` (D,) if anything was commanded before."""

    def finish(self, brake: Plan | None, positions: Array | None = None) -> None:
        """Command ``brake``, or to stay at ``positions``, as the last message; then be gone."""


class Trajectories(Output):
    """One JointTrajectory per arm, or one for the joints of both; each ends by itself."""

    def __init__(self, node: Node, timeline: Timeline, joined: bool) -> None:
        self._node, self._timeline, self._joined = node, timeline, joined
        names = ("both_arms",) if joined else tuple(f"{arm}_arm" for arm in ARMS)
        self.topics = tuple(f"{name}_controller/joint_trajectory" for name in names)
        self._publishers = [
            node.create_publisher(JointTrajectory, topic, qos.COMMAND) for topic in self.topics
        ]

    def follow(self, plan: Plan) -> None:
        """Publish all trajectories with one stamp."""
        parts = [plan.joined] if self._joined else [plan.trajectories[arm] for arm in ARMS]
        if self._timeline.now_s() - plan.start_s > 0:
            after_s = self._timeline.now_s() - plan.stamp_s + MARGIN_S
            parts = [_ahead(part, after_s) for part in parts]
        self._publish(parts, plan.stamp_s)

    def stay(self, positions: Array) -> None:
        """Publish trajectories of one point: what controllers still follow ends."""
        if self.published:
            rest = np.zeros((1, positions.size))
            whole = Trajectory(JOINT_NAMES, np.array([MARGIN_S]), positions[None], rest)
            parts = [whole] if self._joined else [_arm_part(whole, arm) for arm in ARMS]
            self._publish(parts, self._timeline.now_s())

    def finish(self, brake: Plan | None, positions: Array | None = None) -> None:
        """Publish the last trajectories and wait until they have arrived."""
        if brake is not None:
            self.follow(brake)
        elif positions is not None:
            self.stay(positions)
        _deliver(self._node, self._publishers)

    def _publish(self, parts: list[Trajectory], stamp_s: float) -> None:
        stamp = self._timeline.stamp(stamp_s)
        # All are ready before the first goes out: both arms move, or neither.
        messages = [to_message(held(part), stamp) for part in parts]
        for publisher, message in zip(self._publishers, messages, strict=True):
            publisher.publish(message)
        self.published += 1


def held(trajectory: Trajectory) -> Trajectory:
    """Return a plan's trajectory with its last point once more, ``HOLD_S`` later."""
    times_s, positions = trajectory.times_s, trajectory.positions
    velocities = trajectory.velocities
    return replace(
        trajectory,
        times_s=np.append(times_s, times_s[-1] + HOLD_S),
        positions=np.concatenate([positions, positions[-1:]]),
        velocities=np.concatenate([velocities, velocities[-1:]]),
    )


def _ahead(trajectory: Trajectory, after_s: float) -> Trajectory:
    """Return the points later than ``after_s``, at least the last.

    A controller runs from what it commands to the first point ahead without a step, but jumps onto
    a segment that has begun.
    """
    first = min(int((trajectory.times_s <= after_s).sum()), len(trajectory.times_s) - 1)
    return replace(
        trajectory,
        times_s=trajectory.times_s[first:],
        positions=trajectory.positions[first:],
        velocities=trajectory.velocities[first:],
    )


def _arm_part(whole: Trajectory, arm: str) -> Trajectory:
    columns = [JOINT_NAMES.index(name) for name in ARM_JOINTS[arm]]
    positions, velocities = whole.positions[:, columns], whole.velocities[:, columns]
    return Trajectory(ARM_JOINTS[arm], whole.times_s, positions, velocities)


def _deliver(node: Node, publishers: list[Publisher]) -> None:
    """Wait until the last messages have arrived, and take the publishers away."""
    for publisher in publishers:
        publisher.wait_for_all_acked(Duration(seconds=DELIVERY_S))
        node.destroy_publisher(publisher)


class JointStateStream(Output):
    """JointState messages per arm at a steady rate, under the names that the driver uses.

    Silent before the first plan; from then on it streams the motion and, at rest, the hold.
    """

    def __init__(
        self, node: Node, timeline: Timeline, names: tuple[str, ...], values: Mapping[str, Any]
    ) -> None:
        """Make the publishers and start the clockwork; ``names`` are those of the plans."""
        self._node, self._timeline = node, timeline
        self.topics = tuple(f"{arm}_arm/joint_command" for arm in ARMS)
        self._arms = [_ArmStream(node, arm, names, values) for arm in ARMS]
        self._motion = StreamedMotion()
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

    def finish(self, brake: Plan | None, positions: Array | None = None) -> None:
        """Stream until ``brake`` has ended, then stop."""
        if brake is not None:
            self._motion.follow(brake, self._timeline.now_s())
            until_s = time.monotonic() + SETTLE_S
            while self._timeline.now_s() < brake.end_s and time.monotonic() < until_s:
                time.sleep(1 / self.rate_hz)
            time.sleep(2 / self.rate_hz)  # the hold itself
        self._ticker.stop()
        _deliver(self._node, [arm.publisher for arm in self._arms])

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


class _ArmStream:
    def __init__(
        self, node: Node, arm: str, names: tuple[str, ...], values: Mapping[str, Any]
    ) -> None:
        driver = ArmNames(values)
        self.publisher = node.create_publisher(JointState, f"{arm}_arm/joint_command", qos.COMMAND)
        self._columns = [names.index(name) for name in ARM_JOINTS[arm]]
        self._scale = np.ones(len(self._columns))
        self._scale[-1] = driver.gripper_scale
        self._message = JointState(name=list(driver.names[arm]))
        self._with_velocities = values["stream_velocities"]

    def publish(self, positions: Array, velocities: Array, stamp: Any) -> None:
        message = self._message
        message.header.stamp = stamp
        message.position = doubles(positions[self._columns] * self._scale)
        if self._with_velocities:
            message.velocity = doubles(velocities[self._columns] * self._scale)
        self.publisher.publish(message)


def make_output(node: Node, timeline: Timeline, values: Mapping[str, Any]) -> Output:
    """Return the output that the executor's parameters ask for; it has its publishers."""
    if not values["publish_commands"]:
        return Output()
    if values["output"] == "joint_states":
        return JointStateStream(node, timeline, JOINT_NAMES, values)
    return Trajectories(node, timeline, values["output"] == "joined_trajectory")


class StreamedMotion:
    """Samples the newest plan that has begun; written by one thread, read by another.

    A plan starts from the state that the one before commands then, so taking over exactly there
    leaves position and velocity without a step. One that comes later than that (busy cores) is
    joined along a cubic: the difference fades to nothing within `REJOIN_S`.
    """

    def __init__(self) -> None:
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
