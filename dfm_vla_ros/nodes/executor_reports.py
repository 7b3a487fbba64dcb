"""What the executor node says on /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dfm_vla_ros.msg import ExecutorStatus
from dfm_vla_ros.nodes.diagnostics import Level, Report
from dfm_vla_ros.nodes.gate import Gate
from dfm_vla_ros.nodes.joint_watch import JointWatch
from dfm_vla_ros.nodes.outputs import Output


def chunks(values: Mapping[str, Any], status: ExecutorStatus) -> Report:
    """Return how the chunks go; ``values`` are the book's."""
    good = status.error_code == ExecutorStatus.OK
    return Report("chunks", Level.OK if good else Level.WARN, status.message or "ok", values)


def joint_states(watch: JointWatch, rate_hz: float, age_s: float, complaint: str) -> Report:
    """Return how the joint states come."""
    fault = complaint or watch.fault
    values = {
        "rate [Hz]": rate_hz,
        "age [s]": age_s,
        "received": watch.count,
        "not taken": watch.refused,
    }
    level = Level.ERROR if complaint else Level.WARN if fault else Level.OK
    return Report("joint_states", level, fault or "ok", values)


def output(made: Output, rate_hz: float, gate: Gate) -> Report:
    """Return what is commanded; a stream must hold its rate."""
    wanted_hz = made.rate_hz
    slow = bool(wanted_hz and made.published and not gate.conflict and rate_hz < 0.9 * wanted_hz)
    values = {
        "topics": ", ".join(made.topics) or "none",
        "published": made.published,
        "rate [Hz]": rate_hz,
        "ticks lost": made.lost,
    }
    if gate.conflict:
        return Report("output", Level.ERROR, gate.conflict, values)
    if slow:
        return Report("output", Level.WARN, f"slower than {wanted_hz} Hz", values)
    return Report("output", values=values)


def stop(status: ExecutorStatus, gate: Gate) -> Report:
    """Return whether the arms may move."""
    values = {"dry run": status.dry_run, "speed": status.speed}
    if gate.stopped:
        return Report("stop", Level.WARN, f"stopped: {gate.stopped}", values)
    if not gate.active:
        return Report("stop", Level.WARN, "inactive", values)
    return Report("stop", Level.OK, gate.jumped or "may move", values)
