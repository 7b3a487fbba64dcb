"""``executor_node``: action chunks in, checked commands for two arms out; never loads torch.

A chunk comes in at `ExecutorNode._on_chunk`, passes the gate (executor_status.py), becomes a plan
in the library (robot/executor.py) and goes out through an output (outputs.py).
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.parameter import Parameter as Set
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from dfm_vla_ros.msg import ActionChunk, ExecutorStatus, TaskStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import Timeline
from dfm_vla_ros.nodes.executor_parameters import (
    PARAMETERS,
    SPEED,
    check_speed,
    make_executor,
)
from dfm_vla_ros.nodes.executor_status import (
    ChunkCounts,
    EStop,
    Gate,
    RecentRate,
    StatusTopic,
    joints_report,
    reports,
)
from dfm_vla_ros.nodes.health import Diagnostics, PartHealth, conflict
from dfm_vla_ros.nodes.inputs import JointStateHealth, JointStateSource
from dfm_vla_ros.nodes.lifecycle import ManagedNode, run
from dfm_vla_ros.nodes.messages import doubles, request
from dfm_vla_ros.nodes.outputs import Arms, make_output
from dfm_vla_ros.observing.sources import ArmNames, EpisodeWatch
from dfm_vla_ros.robot.chunks import ChunkRefused, Verdict
from dfm_vla_ros.robot.freshness import Moment
from dfm_vla_ros.robot.plan import Plan

LOOK_S = 0.1
"""Between two looks for rivals."""
DISCOVERY_S = 1.0
"""After activation, until whoever else is there has been discovered, and controllers are."""


class ExecutorNode(ManagedNode):
    """Takes chunks, stops and resets; hands plans to its output and says what it does."""

    def __init__(self) -> None:
        """Declare, and answer from now on: chunks are refused until the node is active."""
        super().__init__("executor_node", PARAMETERS)
        ArmNames(self.values)  # refuses unusable ones before anything else
        self._timeline = Timeline(self)
        self._arms = Arms(self._timeline)
        self._joints = JointStateHealth(self.values["maximum_joint_state_age"])
        self._joint_rate, self._episode = RecentRate(), EpisodeWatch()
        reason = "start_stopped is true" if self.values["start_stopped"] else ""
        self._e_stop = EStop(self.values["heartbeat_timeout"], reason)
        self._gate, self._counts = Gate(self._e_stop), ChunkCounts()
        self._silent = False
        self._active_s = 0.0
        self._looked_s = float("-inf")
        self._published = (0, time.monotonic())
        self._status = StatusTopic(self, self._timeline, not self.values["publish_commands"])
        self._commanded = JointState()
        self._make_topics()
        self._make_timers()
        self.add_on_set_parameters_callback(check_speed)
        self.add_post_set_parameters_callback(self._set_speed)
        self._tell(always=True)

    def _make_topics(self) -> None:
        self._commanded_topic = self.create_publisher(
            JointState, "commanded_joint_states", qos.SENSOR_SOURCE
        )
        # Undecoded: a torn chunk is counted, not lost.
        self.create_subscription(
            ActionChunk, "action_chunk", self._guard(self._on_chunk), qos.EVERY_COMMAND, raw=True
        )
        self._source = JointStateSource(self, self.values, self._guard(self._on_joint_states))
        self.create_subscription(
            TaskStatus, "task_status", self._guard(self._on_task_status), qos.STATUS
        )
        if self.values["heartbeat_timeout"]:
            self.create_subscription(
                Bool, "heartbeat", self._guard(self._on_heartbeat), qos.SENSOR
            )
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_service(Trigger, "~/resume", self._on_resume)

    def _make_timers(self) -> None:
        # Not the node's clock: without /clock it stands still, and a signal would go unnoticed.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        for period_s, callback in (
            (1 / self.values["command_rate"], self._tick),
            (LOOK_S, self._look_for_rivals),
            (1.0, lambda: self._tell(always=True)),
        ):
            self.create_timer(period_s, self._guard(callback), clock=steady)
        Diagnostics(self, self._reports, "two arms")

    def _guard(self, callback: Callable) -> Callable:
        """Return ``callback`` with a brake: no message, however wrong, ends the node."""

        def guarded(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as error:  # noqa: BLE001 - the arms must be braked, whatever it was
                self.get_logger().error(traceback.format_exc(), throttle_duration_sec=1.0)
                self._status.refuse(Verdict.MALFORMED, f"braked: {type(error).__name__}: {error}")
                self._arms.brake()

        return guarded

    # Life

    def configure(self) -> None:
        """Load tokenizer, limits and collision model."""
        executor = self._arms.executor = make_executor(self.values)
        executor.speed = self.values["speed"]
        if self._e_stop.reason:
            executor.stop(self._e_stop.reason, self._timeline.now_s())
        self._commanded.name = list(executor.limits.names)
        self._status.message.tokenizer_hash = executor.tokenizer.hash

    def activate(self) -> None:
        """Take chunks as soon as the joints are known."""
        now_s = self._timeline.now_s()
        self._arms.begin(make_output(self, self._timeline, self.values), now_s)
        self._gate.end_goals(now_s)
        self._gate.jumped = ""
        self._active_s = time.monotonic()
        self._e_stop.expect(self._active_s)
        self._gate.active = self._gate.settling = True
        self._look_for_rivals()
        self._tell(always=True)

    def deactivate(self) -> None:
        """Brake; the hold is the last message on the command topics."""
        self._gate.active = False
        self._arms.finish()
        self._gate.conflict = ""
        self._tell(always=True)

    def cleanup(self) -> None:
        """Forget tokenizer, limits and where the arms are."""
        self._counts.close(self._arms.account)
        self._arms.executor = None
        self._tell(always=True)

    # Chunks

    def _on_chunk(self, serialized: bytes) -> None:
        try:
            message = deserialize_message(serialized, ActionChunk)
        except RuntimeError as error:
            self._counts.receive()
            self._refuse(ChunkRefused(Verdict.MALFORMED, f"torn message: {error}"))
            return
        if message.hold:
            self._arms.brake()
            self._tell(always=True)
            return
        self._counts.receive()
        try:
            plan = self._plan(message)
        except ChunkRefused as refusal:
            self._refuse(refusal)
            return
        now_s = self._timeline.now_s()
        self._arms.output.follow(plan)
        seen_s = self._timeline.seconds(message.observation_stamp)
        self._counts.published(now_s - seen_s, now_s - plan.start_s)
        self._status.accept(message, plan)
        self._tell(always=True)

    def _plan(self, message: ActionChunk) -> Plan:
        """Return what the executor makes of a chunk, or raise ChunkRefused."""
        if time.monotonic() > self._looked_s + 2 * LOOK_S:  # the timer is starved
            self._look_for_rivals()
        now_s = self._timeline.now_s()
        seen_s = self._timeline.seconds(message.observation_stamp)
        self._gate.check(message.goal_id, seen_s, now_s)
        assert self._arms.executor is not None
        silence = self._joints.problem(Moment(now_s, time.monotonic()))
        if silence:
            raise ChunkRefused(Verdict.NO_REFERENCE, silence)
        try:
            return self._arms.executor.receive(request(message, seen_s), self._timeline.now_s())
        except ChunkRefused:
            raise
        except Exception as error:  # a fault of this package: the chunk is not to be trusted
            self.get_logger().error(traceback.format_exc())
            text = f"{type(error).__name__}: {error}"
            raise ChunkRefused(Verdict.MALFORMED, text) from error

    def _refuse(self, refusal: ChunkRefused) -> None:
        """Say why; brake unless what runs is still good."""
        self._counts.refusals[refusal.verdict] += 1
        if self._gate.active or self._status.message.message != str(refusal):
            self.get_logger().warning(f"refused: {refusal}")
        self._status.refuse(refusal.verdict, str(refusal))
        if refusal.verdict.brakes:
            self._arms.brake()
        self._tell(always=True)

    # Braking

    def _halt(self, verdict: Verdict, text: str) -> float:
        """Brake for a reason that no chunk gave; return when the arms rest."""
        self.get_logger().error(f"braked: {text}")
        self._status.refuse(verdict, f"braked: {text}")
        return self._arms.brake()

    def _stop(self, reason: str) -> None:
        """Brake and stay stopped until ~/resume."""
        if not self._e_stop.stop(reason):
            return
        self.get_logger().error(f"stopped: {reason}")
        self._arms.stop(reason)
        self._tell(always=True)

    def _on_stop(self, _: Trigger.Request, answer: Trigger.Response) -> Trigger.Response:
        self._guard(self._stop)("~/stop was called")
        answer.success = True
        answer.message = f"stopped ({self._e_stop.reason}); ~/resume ends it"
        return answer

    def _on_resume(self, _: Trigger.Request, answer: Trigger.Response) -> Trigger.Response:
        if not self._e_stop.reason:
            answer.success, answer.message = True, "was not stopped"
            return answer
        fault = self._e_stop.resume(time.monotonic())
        answer.success, answer.message = not fault, fault or "send a new goal to move"
        if not fault:
            if self._arms.executor is not None:
                self._arms.executor.resume()
            self._gate.end_goals(self._timeline.now_s())
            self._tell(always=True)
        return answer

    def _on_heartbeat(self, message: Bool) -> None:
        self._e_stop.beat(message.data, time.monotonic())
        self._check_heartbeat()

    def _check_heartbeat(self) -> None:
        fault = self._e_stop.fault(time.monotonic()) if self._gate.active else ""
        if fault:
            self._stop(fault)

    # What else may be wrong

    def _look_for_rivals(self) -> None:
        """Brake and fall silent while somebody else commands the arms."""
        self._looked_s = time.monotonic()
        text = conflict(self, self._arms.output.topics)
        before, self._gate.conflict = self._gate.conflict, text
        if text and not before:
            # A message more would fight with the other's: brake if moving, then nothing.
            self._arms.leave_at(self._halt(Verdict.CONFLICT, text))
        elif text != before and text:
            self._status.refuse(Verdict.CONFLICT, f"braked: {text}")
        elif before and not text:
            self.get_logger().info("nobody else commands the arms any more: send a new goal")
            self._gate.end_goals(self._timeline.now_s())
            self._arms.forget_at(self._timeline.now_s())

    def _check_clock(self) -> None:
        jump_s = self._timeline.take_jump_s()
        if not jump_s:
            return
        text = f"the clock jumped by {jump_s:+.3g} s: waiting for new joint states"
        self._gate.clock_jumped(text)
        self._joints.forget()
        self._source.clear()
        self._arms.forget_at(self._halt(Verdict.CLOCK_JUMPED, text))

    def _check_joints(self, now_s: float) -> None:
        """Brake a motion whose joint states have ended; start anew where they go on.

        Who is not heard of may not have heard either: the arms need not be where they were sent.
        """
        silence = self._joints.problem(Moment(now_s, time.monotonic()))
        if silence and not self._silent:
            braked = self._gate.jumped or self._gate.conflict or self._e_stop.reason
            if self._arms.moving and not braked:
                self._halt(Verdict.NO_REFERENCE, silence)
        elif self._silent and not silence:
            self._arms.reset(now_s)
        self._silent = bool(silence)

    def _on_joint_states(self, message: JointState) -> None:
        self._joint_rate.add()
        executor = self._arms.executor
        if executor is None:
            return
        now_s, stamp_s = self._timeline.now_s(), self._timeline.seconds(message.header.stamp)
        now = Moment(now_s, time.monotonic())
        if self._joints.take(message, executor.measure, stamp_s, now):
            self.get_logger().warning(f"joint states not taken: {self._joints.fault}")

    def _on_task_status(self, message: TaskStatus) -> None:
        """Start anew from the next joint states: the twin was put somewhere else."""
        if not self._episode.is_new(message.task, message.seed, message.elapsed):
            return
        now_s = self._timeline.now_s()
        self._arms.moved(min(now_s, self._timeline.seconds(message.header.stamp)))

    # What it says

    def _tick(self) -> None:
        """Look at everything that needs no message, and publish what is commanded now."""
        self._check_clock()
        now_s = self._timeline.now_s()
        if self._gate.active:
            self._check_heartbeat()
            self._check_joints(now_s)
            self._publish_commanded(now_s)  # at least once before the hold is forgotten
            self._arms.tick(now_s)
            self._gate.settling = time.monotonic() < self._active_s + DISCOVERY_S
            if self._gate.jumped and self._arms.known:
                self._gate.jumped = ""
        self._tell()

    def _publish_commanded(self, now_s: float) -> None:
        executor = self._arms.executor
        commanded = None if executor is None else executor.sample(now_s)
        if commanded is None:
            return
        message = self._commanded
        message.header.stamp = self._timeline.stamp(now_s)
        message.position, message.velocity = (doubles(values) for values in commanded)
        self._commanded_topic.publish(message)

    def _state(self) -> int:
        if not self._gate.active:
            return ExecutorStatus.INACTIVE
        if self._e_stop.reason:
            return ExecutorStatus.STOPPED
        if self._arms.moving:
            return ExecutorStatus.EXECUTING
        ready = self._arms.known and not self._gate.settling
        return ExecutorStatus.HOLDING if ready else ExecutorStatus.WAITING

    def _tell(self, always: bool = False) -> None:
        """Publish the status if it says something new."""
        executor = self._arms.executor
        self._status.tell(
            self._state(),
            self._e_stop.reason,
            self.values["speed"],
            self._counts.total(self._arms.account),
            None if executor is None else executor.progress,
            always,
        )

    def _reports(self) -> list[PartHealth]:
        now = Moment(self._timeline.now_s(), time.monotonic())
        output, (count, at_s) = self._arms.output, self._published
        self._published = (output.published, now.steady_s)
        rate_hz = (output.published - count) / max(now.steady_s - at_s, 1e-3)
        problem = self._joints.problem(now) if self._gate.active else ""
        age_s = self._joints.age_s(now)
        joints = joints_report(self._joints, self._joint_rate.hz(), age_s, problem)
        chunks = self._counts.values(self._arms.account)
        return reports(self._status.message, self._gate, chunks, joints, output, max(rate_hz, 0.0))

    def _set_speed(self, given: list[Set]) -> None:
        for parameter in given:
            if parameter.name == SPEED.name:
                self.values["speed"] = parameter.value
                if self._arms.executor is not None:
                    self._arms.executor.speed = parameter.value
                self._tell()


def main() -> int:
    """Run the node."""
    return run(ExecutorNode)


if __name__ == "__main__":
    sys.exit(main())
