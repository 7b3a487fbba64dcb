"""A robot that stands still and chunks that move it: what the executor's tests share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from dfm_vla_ros.msg import ActionChunk, ExecutorStatus
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState
from probe import HOME, Graph
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import from_nanoseconds, nanoseconds
from dfm_vla_ros.nodes.messages import doubles
from dfm_vla_ros.robot.joints import JOINT_NAMES

ZERO, STEP = 32, 4
"""The token of no motion, and bins per step of a moving chunk."""
FIRST_JOINTS = [0, 7]
FULL_S = 0.75
"""A moving chunk lasts at least this long."""
HOLD_S = 0.2
"""From a fault's detection limit to the hold, at most."""
CROWDED_S = 0.6
"""The same where others keep the cores busy: this much is up to the scheduler."""


def unchanged(message: JointState) -> JointState | None:
    return message


@dataclass
class Stub:
    """Publishes joint states at 50 Hz; ``change`` may spoil them or keep them back."""

    graph: Graph
    change: Callable[[JointState], JointState | None] = unchanged
    statuses: list[ExecutorStatus] = field(default_factory=list)
    diagnostics: list[DiagnosticArray] = field(default_factory=list)
    goal: int = 0
    direction: int = 1
    offset_ns: int = 0
    """Of the robot's clock, and so of all its stamps, from this machine's."""

    def __post_init__(self) -> None:
        node = self.graph.node
        self._topic = node.create_publisher(JointState, "joint_states", qos.SENSOR_SOURCE)
        node.create_timer(0.02, self._publish)
        node.create_subscription(ExecutorStatus, "executor_node/status", self._take, qos.STATUS)
        node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)
        self._services = {
            name: node.create_client(Trigger, f"executor_node/{name}")
            for name in ("stop", "resume")
        }
        self._change_state = node.create_client(ChangeState, "executor_node/change_state")

    def _publish(self) -> None:
        message = JointState(name=list(JOINT_NAMES), position=doubles(HOME))
        message.header.stamp = from_nanoseconds(self.now_ns())
        changed = self.change(message)
        if changed is not None:
            self._topic.publish(changed)

    def _take(self, status: ExecutorStatus) -> None:
        parts = status.executed + status.refused + status.superseded + status.pending
        assert status.received == parts, status
        self.statuses.append(status)

    def now_ns(self) -> int:
        """Return the time on the robot's clock."""
        return now_ns() + self.offset_ns

    @property
    def status(self) -> ExecutorStatus:
        return self.graph.executor_status

    def until_state(self, state: int, timeout_s: float = 30.0) -> None:
        self.graph.until(lambda: self.status.state == state, f"state {state}", timeout_s)

    def commanded(self) -> np.ndarray:
        """Return what is commanded now."""
        kept, since_ns = self.graph.commanded, self.now_ns()
        self.graph.until(
            lambda: bool(kept) and nanoseconds(kept[-1].header.stamp) >= since_ns,
            "commanded joint states",
        )
        return np.array(kept[-1].position)

    def moving_chunk(self, **changes: Any) -> ActionChunk:
        """Return a chunk that turns the first joint of both arms all the time, to and fro."""
        self.direction = -self.direction
        tokens = np.full((8, len(JOINT_NAMES)), ZERO)
        steps = np.minimum(STEP * np.arange(1, 9), 31)
        tokens[:, FIRST_JOINTS] += self.direction * steps[:, None]
        given = {
            "tokens": tokens.ravel().tolist(),
            "reference_positions": doubles(self.commanded()),
            "goal_id": f"goal {self.goal}",
            "observation_stamp": from_nanoseconds(self.now_ns()),
            **changes,
        }
        return self.graph.chunk(**given)

    def move(self, **changes: Any) -> ExecutorStatus:
        """Come to rest, start a motion for a new goal, and return once it is under way."""
        self.until_state(ExecutorStatus.HOLDING)
        seen = len(self.graph.measured)
        self.graph.until(lambda: len(self.graph.measured) > seen + 2, "joint states")
        self.goal += 1
        status = self.graph.send(self.moving_chunk(**changes))
        assert status.error_code == ExecutorStatus.OK, status.message
        self.graph.until(self.is_moving, "motion")
        return status

    def is_moving(self) -> bool:
        return bool(self.graph.commanded) and bool(np.any(self.graph.commanded[-1].velocity))

    def seconds_to_hold(self, since_ns: int) -> float:
        """Return how long after ``since_ns`` of the real clock the commanded velocity is 0."""

        def held() -> list[JointState]:
            return [
                message
                for message in self.graph.commanded
                if nanoseconds(message.header.stamp) >= since_ns and not np.any(message.velocity)
            ]

        self.graph.until(lambda: bool(held()), "hold", 10.0)
        return (nanoseconds(held()[0].header.stamp) - since_ns) * 1e-9

    def counts(self) -> list[int]:
        return [len(kept) for kept in self.graph.trajectories.values()]

    def sentinel(self) -> None:
        """Move for a new goal: what was published before has come once its trajectories have."""
        before = self.counts()
        self.move()
        self.graph.until(
            lambda: all(n > b for n, b in zip(self.counts(), before, strict=True)), "sentinel"
        )

    def call(self, name: str) -> Trigger.Response:
        client = self._services[name]
        self.graph.until(client.service_is_ready, f"service {name}")
        answer = client.call_async(Trigger.Request())
        self.graph.until(answer.done, f"answer of {name}")
        return answer.result()

    def transition(self, label: str) -> bool:
        request = ChangeState.Request()
        request.transition.label = label
        self.graph.until(self._change_state.service_is_ready, "lifecycle services")
        answer = self._change_state.call_async(request)
        self.graph.until(answer.done, f"answer to {label}")
        return answer.result().success

    def diagnosis(self, part: str) -> Any:
        """Return the next diagnostic status of a part of the executor."""
        self.diagnostics.clear()
        name = f"executor_node: {part}"

        def found() -> list[Any]:
            return [s for array in self.diagnostics for s in array.status if s.name == name]

        self.graph.until(lambda: bool(found()), f"diagnostics of {part}")
        return found()[-1]


def now_ns() -> int:
    return time.time_ns()


def hold_limit_s() -> float:
    """Return how long a hold may take on this machine now [s]."""
    crowded = os.getloadavg()[0] > 1.5 * len(os.sched_getaffinity(0))
    return CROWDED_S if crowded else HOLD_S
