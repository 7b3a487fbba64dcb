"""Health of a node's parts on ``/diagnostics`` (REP-107), and of its rivals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

PERIOD_S = 1.0


class Level(Enum):
    """How well something is."""

    OK = DiagnosticStatus.OK
    WARN = DiagnosticStatus.WARN
    ERROR = DiagnosticStatus.ERROR
    STALE = DiagnosticStatus.STALE


@dataclass(frozen=True)
class PartHealth:
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

    def __init__(self, node: Node, collect: Callable[[], list[PartHealth]], hardware: str) -> None:
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

    def _status(self, report: PartHealth) -> DiagnosticStatus:
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
