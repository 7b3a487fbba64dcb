"""Goals of ``execute_instruction``: taken at once, watched, ended by name.

Everything here runs in the node's own thread; a hold is the last message of a goal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rclpy.action import ActionClient, ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import String

from dfm_vla_ros.action import ExecuteInstruction
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.msg import PolicyStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import ClockWatch
from dfm_vla_ros.policy.policy import Policy

if TYPE_CHECKING:
    from dfm_vla_ros.nodes.policy_node import PolicyNode

Result = ExecuteInstruction.Result


@dataclass(eq=False)
class Goal:
    """One accepted goal.

    Attributes:
        handle: rclpy's.
        accepted_s: ROS time of acceptance [s].
        deadline_s: ROS time of the timeout [s].
        began_s: steady time of acceptance [s].
        executor_restarts: of the executor before it.
        executor_refused: chunks that the executor had refused before it.
        instruction: the sentence to carry out; the topic may change it.
        chunks: published so far.
        inference_s: time of the newest policy call [s].
        waiting_since_s: steady time since which a source is missing or too old, or None.
        feedback_s: steady time of the newest feedback.
        failure: of the policy; empty if it works.
    """

    handle: ServerGoalHandle
    accepted_s: float
    deadline_s: float
    began_s: float = 0.0
    executor_restarts: int = 0
    executor_refused: int = 0
    instruction: str = field(init=False)
    chunks: int = 0
    inference_s: float = 0.0
    waiting_since_s: float | None = None
    failure: str = ""
    feedback_s: float = 0.0
    id: str = field(init=False)

    def __post_init__(self) -> None:
        """Name the goal as the messages do."""
        self.id = bytes(self.handle.goal_id.uuid).hex()
        self.instruction = self.handle.request.instruction


class GoalServer(ActionServer):
    """An action server whose goals end when the node says so.

    rclpy wants a callback that returns the result. Blocking in it would stop the node's only
    thread, and a coroutine that waits keeps rclpy's executor spinning at full load. So the
    callback is scheduled only at the end, when the result is known.
    """

    def __init__(
        self,
        node: Node,
        on_goal: Callable[[ServerGoalHandle], None],
        on_cancel: Callable[[], None],
    ) -> None:
        """Serve ``execute_instruction``; ``on_cancel`` only needs to wake the node."""
        self.open = 0
        """Goals taken whose end is not known to rclpy yet."""
        self.closing = False
        """True: take no goal more."""

        def answer(_: ExecuteInstruction.Goal) -> GoalResponse:
            return GoalResponse.REJECT if self.closing else GoalResponse.ACCEPT

        def accept_cancel(_: ServerGoalHandle) -> CancelResponse:
            on_cancel()
            return CancelResponse.ACCEPT

        def accept(handle: ServerGoalHandle) -> None:
            self.open += 1
            handle.execute()
            on_goal(handle)

        super().__init__(
            node,
            ExecuteInstruction,
            "execute_instruction",
            execute_callback=lambda handle: Result(),
            goal_callback=answer,
            handle_accepted_callback=accept,
            cancel_callback=accept_cancel,
        )

    def notify_execute(self, goal_handle: ServerGoalHandle, execute_callback: Any) -> None:
        """Do nothing yet: the goal is now in the state EXECUTING, the work runs elsewhere."""

    def finish(self, handle: ServerGoalHandle, result: Result) -> None:
        """End a goal with ``result``; its error code decides the state."""

        def conclude(ended: ServerGoalHandle) -> Result:
            self.open -= 1
            if result.error_code == Result.NONE:
                ended.succeed()
            elif ended.is_cancel_requested:
                ended.canceled()
            else:
                ended.abort()
            return result

        super().notify_execute(handle, conclude)


REPLACED = "\ufffd"
"""What rclpy puts where bytes are no UTF-8."""


def instruction_problem(instruction: str, longest: int, policy: Policy) -> str:
    """Return why ``instruction`` cannot be carried out, or an empty text.

    Args:
        instruction: as it was received.
        longest: [bytes].
        policy: knows the words.
    """
    size = len(instruction.encode(errors="replace"))
    if not 0 < size <= longest or not instruction.strip():
        return f"the instruction is {size} bytes long, allowed is 1 .. {longest}"
    if REPLACED in instruction:
        return f"the instruction is no valid UTF-8: {instruction!r}"
    try:
        policy.check_instruction(instruction)
    except DfmVlaError as error:
        return str(error)
    return ""


class InstructionTopic:
    """``instruction``: changes the running goal's sentence, or sends a goal as anybody would.

    Not latched: a node that is started again must not move the arms by an old sentence.
    """

    def __init__(self, node: Node, offer: Callable[[str], str | None]) -> None:
        """Hand each sentence to ``offer``.

        Args:
            node: of the topic and of the action client.
            offer: returns why it refuses the sentence, an empty text if a running goal took it,
                None if it needs a goal of its own.
        """
        self._node, self._offer = node, offer
        self._client = ActionClient(node, ExecuteInstruction, "execute_instruction")
        node.create_subscription(String, "instruction", self._take, qos.COMMAND)

    def destroy(self) -> None:
        """Take down the action client."""
        self._client.destroy()

    def _take(self, message: String) -> None:
        refusal = self._offer(message.data)
        if refusal is None and not self._client.server_is_ready():
            refusal = "the action is not discovered yet: send it again"
        if refusal:
            self._node.get_logger().warning(f"topic instruction refused: {refusal}")
        if refusal is not None:
            return
        goal = ExecuteInstruction.Goal(instruction=message.data)
        self._client.send_goal_async(goal).add_done_callback(self._on_answer)

    def _on_answer(self, sent: Future) -> None:
        if not sent.result().accepted:
            self._node.get_logger().warning("topic instruction: the goal was not accepted")


FEEDBACK_S = 0.2


class GoalRun:
    """Takes goals, one at a time; everything here runs in the node's own thread."""

    def __init__(self, node: PolicyNode, wake: Callable[[], None]) -> None:
        """Serve the action of ``node``; ``wake`` lets ``look`` run soon."""
        self._node, self._values = node, node.values
        self._observer, self._executor = node.observer, node.executor_health
        self._status, self._clock = node.status, ClockWatch(node)
        self.server = GoalServer(node, self._on_goal, wake)

    def _on_goal(self, handle: ServerGoalHandle) -> None:
        """Take over a new goal, or end it at once with the reason."""
        now = self._observer.now()
        timeout_s = handle.request.timeout or self._values["default_timeout"]
        before = (self._executor.restarts, self._executor.refused)
        goal = Goal(handle, now.ros_s, now.ros_s + timeout_s, now.steady_s, *before)
        code, message = self._refusal(goal.instruction, timeout_s)
        if code != Result.NONE:
            self._conclude(goal, code, message)
            return
        if self._node.goal is None:
            self._observer.forget_sizes()
        old = self._node.serve(goal)
        if old is not None:
            self._conclude(old, Result.PREEMPTED, "a newer goal took over")
        self._node.get_logger().info(f"goal: {goal.instruction!r}, {timeout_s:.0f} s")
        self.look()

    def _refusal(self, instruction: str, timeout_s: float) -> tuple[int, str]:
        """Return why a goal cannot be started, as error code and text."""
        if not self._node.active:
            return Result.NOT_READY, f"the node is {self._node.state}: activate it first"
        if self._status.state == PolicyStatus.LOADING:
            return Result.NOT_READY, f"{self._status.message}: wait for status READY"
        longest = self._values["longest_instruction"]
        refusal = instruction_problem(instruction, longest, self._node.inference.policy)
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
        refusal = instruction_problem(instruction, longest, self._node.inference.policy)
        goal = self._node.goal
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
            self._observer.jump_back()
        if not self._node.active:
            return
        goal = self._node.goal
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
        now_s, executor = self._observer.now().ros_s, self._executor
        if goal.handle.is_cancel_requested:
            return Result.CANCELED, "cancelled"
        if back_s:
            return Result.CLOCK_JUMPED, f"the clock went back by {back_s:.3f} s: send it again"
        if self._observer.succeeded_since(goal.accepted_s):
            return Result.NONE, ""
        if goal.failure:
            return Result.INFERENCE_FAILED, goal.failure
        stopped = executor.stopped or executor.refusal_since(goal.executor_refused)
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
        steady_s = self._observer.now().steady_s
        problem = self._node.problem()
        if not problem:
            if goal.waiting_since_s is not None:
                waited_s = steady_s - goal.waiting_since_s
                self._node.get_logger().info(f"the goal goes on after {waited_s:.2f} s")
            goal.waiting_since_s = None
            self._status.set(PolicyStatus.RUNNING)
        else:
            self._node.pause()
            if goal.waiting_since_s is None:
                self._node.get_logger().warning(f"the goal waits: {problem}")
                goal.waiting_since_s = steady_s
            if steady_s - goal.waiting_since_s > self._values["stale_timeout"]:
                self.end(Result.STALE_OBSERVATION, problem)
                return
            self._status.set(PolicyStatus.WAITING, problem)
        if steady_s - goal.feedback_s > FEEDBACK_S:
            goal.feedback_s = steady_s
            self._send_feedback(goal, problem)

    def _send_feedback(self, goal: Goal, message: str) -> None:
        goal.handle.publish_feedback(
            ExecuteInstruction.Feedback(
                chunks=goal.chunks,
                elapsed=self._observer.now().ros_s - goal.accepted_s,
                progress=self._observer.progress(),
                inference_time=goal.inference_s,
                message=message,
            )
        )

    def end(self, code: int, message: str) -> None:
        """End the current goal, if there is one: a hold, and no chunk more for it."""
        goal = self._node.goal
        if goal is None:
            return
        self._node.end_goal()
        self._conclude(goal, code, message)
        self._status.set(PolicyStatus.READY)

    def _conclude(self, goal: Goal, code: int, message: str) -> None:
        duration_s = self._observer.now().ros_s - goal.accepted_s
        result = Result(
            error_code=code, error_msg=message, chunks=goal.chunks, duration=duration_s
        )
        self._node.get_logger().info(
            f"goal ended after {duration_s:.1f} s: {message or 'success'}"
        )
        self.server.finish(goal.handle, result)
