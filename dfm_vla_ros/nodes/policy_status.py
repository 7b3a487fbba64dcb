"""What ``policy_node`` says of itself: ``~/status`` on change and at 1 Hz, and its diagnostics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from rclpy.clock import Clock, ClockType

from dfm_vla_ros.msg import PolicyStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.health import Level, PartHealth
from dfm_vla_ros.policy.policy import Policy

if TYPE_CHECKING:
    from dfm_vla_ros.nodes.policy_node import PolicyNode

MESSAGE_S = 0.2
"""Between two statuses that differ in their message alone."""


class PolicyStatusTopic:
    """Publishes PolicyStatus; latched."""

    def __init__(self, node: PolicyNode) -> None:
        """Begin in the state INACTIVE."""
        self._node = node
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
        goal, status = self._node.goal, self._status
        status.header.stamp = self._node.get_clock().now().to_msg()
        status.instruction = goal.instruction if goal else ""
        status.goal_id = goal.id if goal else ""
        status.chunks = goal.chunks if goal else 0
        status.inference_time_median = _quantile(self._node, 0.5)
        self._topic.publish(status)
        self._shown, self._published_s = status.message, time.monotonic()


def _quantile(node: PolicyNode, share: float) -> float:
    """Return a quantile of the durations of the last policy calls [s], 0 before the first."""
    times = [] if node.session is None else list(node.session.inference_s)
    return float(np.quantile(times, share)) if times else 0.0


MEGABYTE = 1e6


class PolicyReports:
    """Collects the health of the node's parts."""

    def __init__(self, node: PolicyNode) -> None:
        """Tell the health of the parts of ``node``."""
        self._node = node

    def collect(self) -> list[PartHealth]:
        """Return the reports of now."""
        sources = [self._source(name) for name in self._node.observer.sources]
        return [*sources, self._calls(), self._goal(), self._checkpoint(), *self._gpu()]

    def _source(self, name: str) -> PartHealth:
        observer = self._node.observer
        source, now = observer.sources[name], observer.now()
        problem = observer.problem_of(name, now)
        age_s = source.age_s(now)
        values = {
            "rate [Hz]": source.rate_hz(now),
            "age [s]": age_s if np.isfinite(age_s) else "no message",
            "messages refused": source.refused,
        }
        if not problem:
            return PartHealth(name, values=values)
        # Without a goal nobody needs it yet.
        level = Level.WARN if self._node.goal is None else Level.ERROR
        return PartHealth(name, level, problem, values)

    def _calls(self) -> PartHealth:
        session = self._node.session
        values = {
            "median [s]": _quantile(self._node, 0.5),
            "95th percentile [s]": _quantile(self._node, 0.95),
            "chunks": session.published if session else 0,
            "dropped": session.dropped if session else 0,
            "failed": self._node.failed,
        }
        if self._node.inference.policy is None:
            return PartHealth("inference", Level.STALE, "no policy is loaded", values)
        return PartHealth("inference", values=values)

    def _goal(self) -> PartHealth:
        goal, message = self._node.goal, self._node.status.message
        if goal is None:
            return PartHealth("goal", message=message or "none")
        values = {"instruction": goal.instruction, "id": goal.id, "chunks": goal.chunks}
        level = Level.WARN if message else Level.OK
        return PartHealth("goal", level, message or "running", values)

    def _checkpoint(self) -> PartHealth:
        policy = self._node.inference.policy
        if policy is None:
            return PartHealth("checkpoint", Level.STALE, "no policy is loaded")
        hashes = {"sha256": policy.checkpoint_hash, "tokenizer sha256": policy.tokenizer.hash}
        return PartHealth("checkpoint", values=hashes)

    def _gpu(self) -> list[PartHealth]:
        """Return the GPU's memory, where one is used."""
        if not torch.cuda.is_initialized():
            return []
        values = {
            "memory allocated [MB]": torch.cuda.memory_allocated() / MEGABYTE,
            "memory reserved [MB]": torch.cuda.memory_reserved() / MEGABYTE,
        }
        return [PartHealth("gpu", message=torch.cuda.get_device_name(), values=values)]
