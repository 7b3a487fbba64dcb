"""The goal that runs: taken, watched, ended by name with a hold as the last message."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.action.server import ServerGoalHandle

from dfm_vla_ros.action import ExecuteInstruction
from dfm_vla_ros.msg import PolicyStatus
from dfm_vla_ros.nodes.chunk_maker import ChunkMaker, Inference
from dfm_vla_ros.nodes.clock import ClockWatch
from dfm_vla_ros.nodes.goals import Goal, GoalServer, Result, objection
from dfm_vla_ros.nodes.health import ExecutorWatch
from dfm_vla_ros.nodes.inputs import Watch
from dfm_vla_ros.nodes.lifecycle import ManagedNode
from dfm_vla_ros.nodes.policy_status import StatusTopic

FEEDBACK_S = 0.2


class GoalRun:
    """Takes goals, one at a time; everything here runs in the node's own thread."""

    def __init__(
        self,
        node: ManagedNode,
        values: Mapping[str, Any],
        watch: Watch,
        executor: ExecutorWatch,
        inference: Inference,
        chunks: ChunkMaker,
        status: StatusTopic,
        wake: Callable[[], None],
    ) -> None:
        """Serve the action; ``wake`` lets ``look`` run soon."""
        self._node, self._values = node, values
        self._watch, self._executor = watch, executor
        self._inference, self._chunks, self._status = inference, chunks, status
        self._clock = ClockWatch(node)
        self.server = GoalServer(node, self._on_goal, wake)

    def _on_goal(self, handle: ServerGoalHandle) -> None:
        """Take over a new goal, or end it at once with the reason."""
        now = self._watch.now()
        timeout_s = handle.request.timeout or self._values["default_timeout"]
        before = (self._executor.restarts, self._executor.refused)
        goal = Goal(handle, now.ros_s, now.ros_s + timeout_s, now.steady_s, *before)
        code, message = self._objection(goal.instruction, timeout_s)
        if code != Result.NONE:
            self._conclude(goal, code, message)
            return
        if self._chunks.goal is None:
            self._watch.forget_sizes()
        old = self._chunks.serve(goal)
        if old is not None:
            self._conclude(old, Result.PREEMPTED, "a newer goal took over")
        self._node.get_logger().info(f"goal: {goal.instruction!r}, {timeout_s:.0f} s")
        self.look()

    def _objection(self, instruction: str, timeout_s: float) -> tuple[int, str]:
        """Return why a goal cannot be started, as error code and text."""
        if not self._node.active:
            return Result.NOT_READY, f"the node is {self._node.state}: activate it first"
        if self._status.state == PolicyStatus.LOADING:
            return Result.NOT_READY, f"{self._status.message}: wait for status READY"
        longest = self._values["longest_instruction"]
        refusal = objection(instruction, longest, self._inference.policy)
        if refusal:
            return Result.BAD_INSTRUCTION, refusal
        if not (math.isfinite(timeout_s) and timeout_s > 0):
            return Result.BAD_INSTRUCTION, f"timeout is {timeout_s} s; give a positive number"
        if self._executor.stopped:
            return Result.EXECUTOR_STOPPED, self._executor.stopped
        return Result.NONE, ""

    def offer(self, instruction: str) -> str | None:
        """Let the running goal go on with another sentence; see InstructionTopic."""
        if not self._node.active:
            return f"the node is {self._node.state}: activate it first"
        longest = self._values["longest_instruction"]
        refusal = objection(instruction, longest, self._inference.policy)
        goal = self._chunks.goal
        if refusal or goal is None:
            return refusal or None
        self._node.get_logger().info(f"the goal goes on with {instruction!r}")
        goal.instruction = instruction
        self._status.publish()
        return ""

    def look(self) -> None:
        """See whether the goal has ended, and say how it goes."""
        back_s = self._clock.jumped_back_s()
        if back_s:
            self._watch.jump_back()
        if not self._node.active:
            return
        goal = self._chunks.goal
        if goal is None:
            self.wait_clock()
            return
        code, message = self._ending(goal, back_s)
        if code is not None:
            self.end(code, message)
        else:
            self._watch_sources(goal)

    def wait_clock(self) -> None:
        """Be ready for goals once there is a time: one taken before would be over at once."""
        if self._node.get_clock().now().nanoseconds:
            self._status.set(PolicyStatus.READY)
        else:
            self._status.set(PolicyStatus.LOADING, "use_sim_time is true and /clock is silent")

    def _ending(self, goal: Goal, back_s: float) -> tuple[int | None, str]:
        """Return code and text of the goal's end; None if it goes on."""
        now_s, executor = self._watch.now().ros_s, self._executor
        if goal.handle.is_cancel_requested:
            return Result.CANCELED, "cancelled"
        if back_s:
            return Result.CLOCK_JUMPED, f"the clock went back by {back_s:.3f} s: send it again"
        if self._watch.succeeded_since(goal.accepted_s):
            return Result.NONE, ""
        if goal.failure:
            return Result.INFERENCE_FAILED, goal.failure
        stopped = executor.stopped or executor.barred(goal.executor_refused)
        if stopped:
            return Result.EXECUTOR_STOPPED, stopped
        loss = executor.loss(goal.began_s, goal.executor_restarts)
        if loss:
            return Result.EXECUTOR_LOST, loss
        if now_s >= goal.deadline_s:
            return Result.TIMEOUT, f"not done within {now_s - goal.accepted_s:.1f} s"
        return None, ""

    def _watch_sources(self, goal: Goal) -> None:
        """Hold and report while the goal waits for sources; end it when it has waited too long."""
        steady_s = self._watch.now().steady_s
        complaint = self._watch.complaint() or self._executor.complaint()
        if not complaint:
            if goal.waiting_since_s is not None:
                waited_s = steady_s - goal.waiting_since_s
                self._node.get_logger().info(f"the goal goes on after {waited_s:.2f} s")
            goal.waiting_since_s = None
            self._status.set(PolicyStatus.RUNNING)
        else:
            self._chunks.pause()
            if goal.waiting_since_s is None:
                self._node.get_logger().warning(f"the goal waits: {complaint}")
                goal.waiting_since_s = steady_s
            if steady_s - goal.waiting_since_s > self._values["stale_timeout"]:
                self.end(Result.STALE_OBSERVATION, complaint)
                return
            self._status.set(PolicyStatus.WAITING, complaint)
        if steady_s - goal.feedback_s > FEEDBACK_S:
            goal.feedback_s = steady_s
            self._send_feedback(goal, complaint)

    def _send_feedback(self, goal: Goal, message: str) -> None:
        goal.handle.publish_feedback(
            ExecuteInstruction.Feedback(
                chunks=goal.chunks,
                elapsed=self._watch.now().ros_s - goal.accepted_s,
                progress=self._watch.progress(),
                inference_time=goal.inference_s,
                message=message,
            )
        )

    def end(self, code: int, message: str) -> None:
        """End the current goal, if there is one: a hold, and no chunk more for it."""
        goal = self._chunks.goal
        if goal is None:
            return
        self._chunks.end()
        self._conclude(goal, code, message)
        self._status.set(PolicyStatus.READY)

    def _conclude(self, goal: Goal, code: int, message: str) -> None:
        duration_s = self._watch.now().ros_s - goal.accepted_s
        result = Result(
            error_code=code, error_msg=message, chunks=goal.chunks, duration=duration_s
        )
        self._node.get_logger().info(
            f"goal ended after {duration_s:.1f} s: {message or 'success'}"
        )
        self.server.finish(goal.handle, result)
