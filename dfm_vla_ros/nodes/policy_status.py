"""``policy_node/status``: what the node does, on change and at 1 Hz."""

from __future__ import annotations

import statistics
import time

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from dfm_vla_ros.msg import PolicyStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.chunk_maker import ChunkMaker
from dfm_vla_ros.policy.policy import Policy

MESSAGE_S = 0.2
"""Between two statuses that differ in their message alone."""


class StatusTopic:
    """Publishes PolicyStatus; latched."""

    def __init__(self, node: Node, chunks: ChunkMaker) -> None:
        """Begin in the state INACTIVE."""
        self._node, self._chunks = node, chunks
        self._status = PolicyStatus(state=PolicyStatus.INACTIVE)
        self._shown, self._published_s = "", 0.0
        self._topic = node.create_publisher(PolicyStatus, "~/status", qos.STATUS)
        node.create_timer(1.0, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def state(self) -> int:
        """The state last set."""
        return self._status.state

    @property
    def message(self) -> str:
        """The message last set."""
        return self._status.message

    def set(self, state: int, message: str = "") -> None:
        """Publish a change: that of the state at once, that of an age not each time it grows."""
        status = self._status
        is_new = status.state != state
        status.state, status.message = state, message
        rested = time.monotonic() - self._published_s >= MESSAGE_S
        if is_new or (message != self._shown and rested):
            self.publish()

    def name(self, policy: Policy | None) -> None:
        """Say which checkpoint is loaded."""
        self._status.checkpoint_hash = policy.checkpoint_hash if policy else ""
        self._status.tokenizer_hash = policy.tokenizer.hash if policy else ""

    def publish(self) -> None:
        """Publish what holds now."""
        goal, status = self._chunks.goal, self._status
        status.header.stamp = self._node.get_clock().now().to_msg()
        status.instruction = goal.instruction if goal else ""
        status.goal_id = goal.id if goal else ""
        status.chunks = goal.chunks if goal else 0
        times = list(self._chunks.times)
        status.inference_time_median = statistics.median(times) if times else 0.0
        self._topic.publish(status)
        self._shown, self._published_s = status.message, time.monotonic()
