"""Goals of ``execute_instruction``: taken at once, ended later from the node's own thread."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rclpy.action import ActionClient, ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import String

from dfm_vla_ros.action import ExecuteInstruction
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.msg import ActionChunk
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import TimeBase
from dfm_vla_ros.nodes.messages import doubles
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.types import Guidance, Observation

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
        submissions: policy calls started so far.
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
    submissions: int = 0
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


def objection(instruction: str, longest: int, policy: Policy) -> str:
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


@dataclass(frozen=True)
class Submission:
    """A look at the world on its way to become a chunk.

    Attributes:
        goal: that it serves.
        holds: how many holds there were at the look.
        at_s: stamp of the triggering image [s].
        observation: what was seen.
        image_stamps_s: camera -> stamp of its image [s].
        seed: of the refinement.
        guidance: what the chunk keeps of the running one.
        trace: whether the chunk is traced.
    """

    goal: Goal
    holds: int
    at_s: float
    observation: Observation
    image_stamps_s: Mapping[str, float]
    seed: int
    guidance: Guidance | None
    trace: bool

    def describe(self, message: ActionChunk, time_base: TimeBase) -> None:
        """Fill in what the chunk was made from; its tokens hold what was committed."""
        message.goal_id = self.goal.id
        message.instruction = self.observation.instruction
        message.observation_stamp = time_base.stamp(self.at_s)
        message.cameras = list(self.image_stamps_s)
        message.image_stamps = [time_base.stamp(at_s) for at_s in self.image_stamps_s.values()]
        message.measured_positions = doubles(self.observation.positions)
        message.seed = self.seed
        if self.guidance is not None and self.guidance.start_t0 is not None:
            message.warm_start = self.guidance.start_t0
            tokens = np.ascontiguousarray(self.guidance.tokens, dtype=np.uint16)
            message.guidance_tokens = array("H", tokens.tobytes())
