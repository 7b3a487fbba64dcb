"""Sentences: which are refused, and the topic that feeds the action."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import String

from dfm_vla_ros.action import ExecuteInstruction
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.policy.policy import Policy

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
