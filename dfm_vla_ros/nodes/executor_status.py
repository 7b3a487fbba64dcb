"""The executor node's status message: on change and once a second."""

from __future__ import annotations

import uuid
from dataclasses import asdict

from rclpy.node import Node

from dfm_vla_ros.msg import ActionChunk, ExecutorStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.timeline import Timeline
from dfm_vla_ros.robot.chunks import Verdict
from dfm_vla_ros.robot.plan import Plan
from dfm_vla_ros.robot.progress import Account, Progress


class StatusTopic:
    """Fills and publishes the message.

    Attributes:
        message: the newest; set its fields, they go out with the next `publish`.
    """

    def __init__(self, node: Node, timeline: Timeline, dry_run: bool) -> None:
        """Publish on ``~/status``."""
        self._node, self._timeline = node, timeline
        self._topic = node.create_publisher(ExecutorStatus, "~/status", qos.STATUS)
        self.message = ExecutorStatus(
            run_id=uuid.uuid4().hex, dry_run=dry_run, state=ExecutorStatus.INACTIVE
        )
        self._shown: tuple = ()

    def accept(self, chunk: ActionChunk, plan: Plan) -> None:
        """Describe the chunk that is followed from now on."""
        message = self.message
        message.error_code, message.message = Verdict.OK, ""
        message.goal_id, message.chunk_id = chunk.goal_id, chunk.chunk_id
        message.observation_stamp = chunk.observation_stamp
        message.published_stamp = self._node.get_clock().now().to_msg()
        message.inference_time = chunk.inference_time
        message.time_scale = plan.time_scale

    def blame(self, verdict: Verdict, text: str) -> None:
        """Say why the newest chunk was refused or stopped."""
        self.message.error_code, self.message.message = int(verdict), text

    def update(self, state: int, stop_reason: str, speed: float, account: Account) -> bool:
        """Take in what else the message says; return whether any of it is new."""
        message = self.message
        message.state, message.stop_reason, message.speed = state, stop_reason, speed
        for name, count in asdict(account).items():
            setattr(message, name, count)
        shown = (state, stop_reason, speed, account, message.error_code, message.message)
        changed = shown != self._shown
        self._shown = shown
        return changed

    def publish(self, progress: Progress | None) -> None:
        """Publish the message."""
        message = self.message
        message.step_period, message.last_step = 0.0, 0
        if progress is not None:
            message.step_zero = self._timeline.stamp(progress.step_zero_s)
            message.step_period = progress.step_period_s
            message.last_step = progress.last_step
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._topic.publish(message)
