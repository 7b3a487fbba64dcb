"""What the policy node knows of the executor: whether it lives, and how far the chunk has come."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node

from dfm_vla_ros.msg import ExecutorStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.stamps import TimeBase
from dfm_vla_ros.robot.progress import Progress

TOPIC = "executor_node/status"
BARRING = (ExecutorStatus.NOT_ACTIVE, ExecutorStatus.CONFLICT)
SILENCE_S = 2.5
"""Real time without a status, which comes at 1 Hz, or without the executor being active."""


class ExecutorWatch:
    """Keeps the executor's newest status."""

    def __init__(self, node: Node, time_base: TimeBase, on_status: Callable[[], None]) -> None:
        """Call ``on_status`` after each."""
        self._time, self._on_status = time_base, on_status
        self.status: ExecutorStatus | None = None
        self.restarts = 0
        """How often another process answered than before."""
        self._came_s = self._able_s = float("-inf")
        node.create_subscription(ExecutorStatus, TOPIC, self._take, qos.STATUS)

    @property
    def progress(self) -> Progress | None:
        """The phase of the chunk that the executor follows, None before the first status."""
        status = self.status
        if status is None:
            return None
        return Progress(
            status.goal_id,
            status.chunk_id,
            self._time.seconds(status.step_zero),
            status.step_period,
            status.last_step,
        )

    @property
    def stopped(self) -> str:
        """Why chunks are refused until somebody resumes; empty if they are not."""
        status = self.status
        if status is None or status.state != ExecutorStatus.STOPPED:
            return ""
        reason = status.stop_reason or "no reason given"
        return f"the arms are stopped ({reason}): call executor_node/resume, then send the goal"

    @property
    def refused(self) -> int:
        """Chunks that it has refused so far."""
        return 0 if self.status is None else self.status.refused

    def barred(self, refused: int) -> str:
        """Return why it takes no chunk of this goal more, or an empty text.

        After a stop that is over, or somebody else's commands, it waits for a new goal.

        Args:
            refused: ``self.refused`` when the goal began.
        """
        status = self.status
        if status is None or status.refused <= refused or status.error_code not in BARRING:
            return ""
        unready = status.state in (ExecutorStatus.INACTIVE, ExecutorStatus.WAITING)
        return "" if unready else f"{TOPIC}: {status.message}"

    def complaint(self) -> str:
        """Return why a chunk would be in vain, or an empty text."""
        if self.status is None or self.status.state == ExecutorStatus.INACTIVE:
            return self._absence()
        if self.status.state == ExecutorStatus.WAITING:
            return f"{TOPIC}: the executor waits for joint states, or was activated just now"
        return ""

    def loss(self, since_s: float, restarts: int) -> str:
        """Return why a goal that began at ``since_s`` (steady clock) has lost the executor.

        Args:
            since_s: when it began [s].
            restarts: ``self.restarts`` then.
        """
        if self.restarts != restarts:
            return "the executor was restarted, or a second one runs: send the goal again"
        silent_s = time.monotonic() - max(self._able_s, since_s)
        if silent_s <= SILENCE_S:
            return ""
        return f"{self._absence()} for {silent_s:.1f} s: start or activate it"

    def _absence(self) -> str:
        if self.status is not None and time.monotonic() - self._came_s <= SILENCE_S:
            return f"{TOPIC}: the executor is inactive"
        return f"{TOPIC}: no message"

    def _take(self, message: ExecutorStatus) -> None:
        before, self.status = self.status, message
        self._came_s = time.monotonic()
        if message.state != ExecutorStatus.INACTIVE:
            self._able_s = self._came_s
        if before is not None and before.run_id != message.run_id:
            self.restarts += 1
        self._on_status()
