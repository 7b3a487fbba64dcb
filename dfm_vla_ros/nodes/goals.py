"""Goals of ``execute_instruction``: taken at once, ended later from the node's own thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node

from dfm_vla_ros.action import ExecuteInstruction

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
