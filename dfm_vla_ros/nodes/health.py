"""Health of a node's parts on ``/diagnostics`` (REP-107), of its rivals, and of the executor."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from dfm_vla_ros.msg import ExecutorStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import TimeBase
from dfm_vla_ros.robot.freshness import Freshness, Moment
from dfm_vla_ros.robot.progress import Progress

PERIOD_S = 1.0


class Level(Enum):
    """How well something is."""

    OK = DiagnosticStatus.OK
    WARN = DiagnosticStatus.WARN
    ERROR = DiagnosticStatus.ERROR
    STALE = DiagnosticStatus.STALE


@dataclass(frozen=True)
class Report:
    """The health of one part of a node.

    Attributes:
        part: its name, e.g. "chunks"; shown as "<node>: <part>".
        level: OK, WARN, ERROR or STALE.
        message: for people.
        values: shown as text; numbers with 4 significant digits, units in the keys.
    """

    part: str
    level: Level = Level.OK
    message: str = "ok"
    values: Mapping[str, Any] = field(default_factory=dict)


class Diagnostics:
    """Asks for reports once a second of real time and publishes them."""

    def __init__(self, node: Node, collect: Callable[[], list[Report]], hardware: str) -> None:
        """Publish what ``collect`` returns; ``hardware`` names the robot."""
        self._node, self._collect, self._hardware = node, collect, hardware
        self._topic = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Not the node's clock: a silent /clock is a thing to diagnose.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(PERIOD_S, self.publish, clock=steady)

    def publish(self) -> None:
        """Publish the reports of now."""
        message = DiagnosticArray(status=[self._status(report) for report in self._collect()])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._topic.publish(message)

    def _status(self, report: Report) -> DiagnosticStatus:
        name = self._node.get_fully_qualified_name().lstrip("/")
        return DiagnosticStatus(
            level=report.level.value,
            name=f"{name}: {report.part}",
            message=report.message,
            hardware_id=self._hardware,
            values=[KeyValue(key=k, value=_text(v)) for k, v in report.values.items()],
        )


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def conflict(node: Node, topics: Sequence[str]) -> str:
    """Return who publishes on ``topics`` beside ``node``, or an empty text.

    ``node`` has one publisher on each. Subscribers, such as a recorder, are nobody's rivals.

    Args:
        node: asks the graph.
        topics: relative names.
    """
    own = (node.get_name(), node.get_namespace())
    for topic in topics:
        infos = node.get_publishers_info_by_topic(topic)
        names = Counter((info.node_name, info.node_namespace) for info in infos)
        names[own] -= 1
        rivals = sorted(key for key, count in names.items() if count > 0)
        if rivals:
            name, namespace = rivals[0]
            full = f"{namespace.rstrip('/')}/{name}"
            what = f"another {full}" if rivals[0] == own else full
            if "UNKNOWN" in name:  # DDS tells of a node later than of its publishers
                what = "a node whose name is not known yet"
            return (
                f"{what} publishes on {node.resolve_topic_name(topic)} too: end one of the two, "
                "only one may command an arm (one that was killed counts for up to 20 s)"
            )
    return ""


TOPIC = "executor_node/status"
BARRING = (ExecutorStatus.NOT_ACTIVE, ExecutorStatus.CONFLICT)
SILENCE_S = 2.5
"""Real time without a status, which comes at 1 Hz, or without the executor being active."""


class ExecutorHealth:
    """Keeps the executor's newest status and says what it means for a goal."""

    def __init__(self, node: Node, time_base: TimeBase, on_status: Callable[[], None]) -> None:
        """Call ``on_status`` after each."""
        self._time, self._on_status = time_base, on_status
        self.status: ExecutorStatus | None = None
        self.restarts = 0
        """How often another process answered than before."""
        self._heard, self._able = Freshness(SILENCE_S), Freshness(SILENCE_S)
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

    def refusal_since(self, refused: int) -> str:
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

    def problem(self) -> str:
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
        now = Moment(0.0, time.monotonic())
        silent_s = min(self._able.age_s(now), now.steady_s - since_s)
        if silent_s <= SILENCE_S:
            return ""
        return f"{self._absence()} for {silent_s:.1f} s: start or activate it"

    def _absence(self) -> str:
        if self._heard.age_s(Moment(0.0, time.monotonic())) <= SILENCE_S:
            return f"{TOPIC}: the executor is inactive"
        return f"{TOPIC}: no message"

    def _take(self, message: ExecutorStatus) -> None:
        before, self.status = self.status, message
        self._heard.renew(came_s=time.monotonic())
        if message.state != ExecutorStatus.INACTIVE:
            self._able.renew(came_s=time.monotonic())
        if before is not None and before.run_id != message.run_id:
            self.restarts += 1
        self._on_status()
