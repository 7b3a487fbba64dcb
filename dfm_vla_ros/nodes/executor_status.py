"""What may stop the executor, what became of its chunks, and how it tells of both."""

from __future__ import annotations

import time
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from rclpy.node import Node

from dfm_vla_ros.msg import ActionChunk, ExecutorStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import Timeline
from dfm_vla_ros.nodes.health import Level, PartHealth
from dfm_vla_ros.nodes.inputs import JointStateHealth
from dfm_vla_ros.nodes.outputs import Output
from dfm_vla_ros.robot.chunks import ChunkRefused, Verdict
from dfm_vla_ros.robot.plan import Plan
from dfm_vla_ros.robot.progress import Account, Progress


class EStop:
    """Whether the arms are stopped until somebody resumes, and why; knows nothing of ROS.

    Times are of a steady clock [s]. A heartbeat that says ``False`` or is silent stops the arms,
    and while it does they cannot be resumed.
    """

    def __init__(self, heartbeat_timeout_s: float, reason: str = "") -> None:
        """Begin stopped if there is a ``reason``; a timeout of 0 means no heartbeat."""
        self.reason = reason
        """Why the arms are stopped; empty if they are not."""
        self._timeout_s = heartbeat_timeout_s
        self._beat_s = float("-inf")
        self._alive = True

    def stop(self, reason: str) -> bool:
        """Stop; return whether that is new. The first reason stays."""
        if self.reason:
            return False
        self.reason = reason
        return True

    def resume(self, now_s: float) -> str:
        """End the stop; return why that is not possible, or an empty text."""
        fault = self.fault(now_s)
        if not fault:
            self.reason = ""
        return fault

    def beat(self, alive: bool, now_s: float) -> None:
        """Take in a heartbeat."""
        self._alive, self._beat_s = alive, now_s

    def expect(self, now_s: float) -> None:
        """Give the first heartbeat from ``now_s`` on as long as any other."""
        self._beat_s = max(self._beat_s, now_s)

    def fault(self, now_s: float) -> str:
        """Return what is wrong with the heartbeat now, or an empty text."""
        if not self._timeout_s:
            return ""
        if not self._alive:
            return "the heartbeat says false"
        silent_s = now_s - self._beat_s
        if silent_s > self._timeout_s:
            since = f"for {silent_s:.2f} s" if silent_s < 1e9 else "since the start"
            return f"the heartbeat is silent {since}, allowed is {self._timeout_s} s"
        return ""


REMEMBERED_GOALS = 1000
LARGEST_LEAD_S = 0.1
"""Of an observation before this machine's clock."""


class Gate:
    """Decides whether a chunk may move the arms.

    Attributes:
        e_stop: refuses every chunk while it stops the arms.
        active: the node is active.
        conflict: who else commands the arms; empty if nobody does.
        jumped: how the clock jumped; empty once there are joint states of the new time.
        settling: the node was activated just now and may not know yet who else is there.
    """

    def __init__(self, e_stop: EStop) -> None:
        self.e_stop = e_stop
        self.active = False
        self.conflict = self.jumped = ""
        self.settling = self._has_jumped = False
        self._goals: OrderedDict[str, None] = OrderedDict()
        self._ended: frozenset[str] = frozenset()
        self._open_s = float("-inf")

    def check(self, goal_id: str, observation_s: float, now_s: float) -> None:
        """Raise unless a chunk of this goal, seen at ``observation_s``, may be executed.

        Raises:
            ChunkRefused: it may not, and why.
        """
        self._goals[goal_id] = None
        self._goals.move_to_end(goal_id)
        if len(self._goals) > REMEMBERED_GOALS:
            self._goals.popitem(last=False)
        for holds, verdict, text in self._checks(goal_id, observation_s, now_s):
            if not holds:
                raise ChunkRefused(verdict, text)

    def _checks(
        self, goal_id: str, observation_s: float, now_s: float
    ) -> tuple[tuple[bool, Verdict, str], ...]:
        """Return conditions in order of importance, each with what to say if it fails."""
        ahead_s = observation_s - now_s
        return (
            (self.active, Verdict.NOT_ACTIVE, "the executor is not active: activate it"),
            (
                not self.e_stop.reason,
                Verdict.NOT_ACTIVE,
                f"stopped ({self.e_stop.reason}): call ~/resume, then send a new goal",
            ),
            (not self.conflict, Verdict.CONFLICT, self.conflict),
            (
                not self.settling,
                Verdict.NOT_ACTIVE,
                "activated just now: looking for others who command the arms",
            ),
            (not self.jumped, Verdict.CLOCK_JUMPED, self.jumped),
            (
                ahead_s <= LARGEST_LEAD_S,
                Verdict.CLOCK_JUMPED if self._has_jumped else Verdict.MALFORMED,
                f"the chunk was observed {ahead_s:.3g} s ahead of this clock: synchronise the "
                "clocks of policy and executor",
            ),
            (
                goal_id not in self._ended and observation_s >= self._open_s,
                Verdict.NOT_ACTIVE,
                f"goal {goal_id!r} is from before the arms were stopped: send a new goal",
            ),
        )

    def end_goals(self, now_s: float) -> None:
        """Ignore the goals known so far, and chunks that were observed before now."""
        self._ended, self._open_s = frozenset(self._goals), now_s

    def clock_jumped(self, text: str) -> None:
        """Refuse chunks until ``jumped`` is emptied."""
        self.jumped, self._has_jumped, self._open_s = text, True, float("-inf")


WINDOW_S = 5.0
REMEMBERED_EVENTS = 10_000


class RecentRate:
    """Counts events of the last seconds."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._times: deque[float] = deque(maxlen=REMEMBERED_EVENTS)

    def add(self) -> None:
        """An event happened."""
        self._times.append(time.monotonic())

    def hz(self) -> float:
        """Return events per second over the window [Hz]."""
        now_s = time.monotonic()
        while self._times and self._times[0] < now_s - WINDOW_S:
            self._times.popleft()
        return len(self._times) / max(1e-3, min(WINDOW_S, now_s - self._began_s))


class ChunkCounts:
    """Counts chunks that come and that are refused; adds what the executor says of the rest."""

    def __init__(self) -> None:
        self.received = 0
        self.refusals: Counter[Verdict] = Counter()
        self.rate = RecentRate()
        self._earlier = Account()
        self._latencies_s: deque[float] = deque(maxlen=200)
        self.late = 0
        """Plans whose first point had passed when they were published."""

    def receive(self) -> None:
        """A chunk came."""
        self.received += 1
        self.rate.add()

    def published(self, latency_s: float, late_s: float) -> None:
        """A plan went out ``latency_s`` after its observation, ``late_s`` after its start."""
        self._latencies_s.append(latency_s)
        self.late += late_s > 0

    def close(self, account: Account) -> None:
        """The executor that gave ``account`` is gone: what was pending never began."""
        total = self.total(account)
        superseded = total.superseded + total.pending
        self._earlier = Account(executed=total.executed, superseded=superseded)

    def total(self, account: Account) -> Account:
        """Return the account of all lives; refusals and receipts are those counted here."""
        return Account(
            received=self.received,
            executed=self._earlier.executed + account.executed,
            refused=sum(self.refusals.values()),
            superseded=self._earlier.superseded + account.superseded,
            pending=account.pending,
        )

    def values(self, account: Account) -> dict[str, Any]:
        """Return what diagnostics show."""
        shown: dict[str, Any] = {
            "rate [Hz]": self.rate.hz(),
            **vars(self.total(account)),
            "published after their first point": self.late,
        }
        if self._latencies_s:
            median, high = np.percentile(self._latencies_s, [50, 95])
            shown["observation to command, median [s]"] = float(median)
            shown["observation to command, 95th percentile [s]"] = float(high)
        for verdict, count in sorted(self.refusals.items()):
            shown[f"refused {verdict.name}"] = count
        return shown


class StatusTopic:
    """Fills and publishes the message.

    Attributes:
        message: the newest; set its fields, they go out with the next `tell`.
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

    def refuse(self, verdict: Verdict, text: str) -> None:
        """Say why the newest chunk was refused or stopped."""
        self.message.error_code, self.message.message = int(verdict), text

    def tell(
        self,
        state: int,
        stop_reason: str,
        speed: float,
        account: Account,
        progress: Progress | None,
        always: bool,
    ) -> None:
        """Publish the message if any of this is new, or ``always``."""
        message = self.message
        message.state, message.stop_reason, message.speed = state, stop_reason, speed
        for name, count in vars(account).items():
            setattr(message, name, count)
        before = self._shown
        self._shown = (state, stop_reason, speed, account, message.error_code, message.message)
        if self._shown == before and not always:
            return
        message.step_period, message.last_step = 0.0, 0
        if progress is not None:
            message.step_zero = self._timeline.stamp(progress.step_zero_s)
            message.step_period = progress.step_period_s
            message.last_step = progress.last_step
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._topic.publish(message)


def reports(
    status: ExecutorStatus,
    gate: Gate,
    chunks: Mapping[str, Any],
    joints: PartHealth,
    output: Output,
    rate_hz: float,
) -> list[PartHealth]:
    """Return the health of all parts; ``chunks`` are the counts, ``rate_hz`` the output's."""
    good = status.error_code == ExecutorStatus.OK
    level = Level.OK if good else Level.WARN
    return [
        PartHealth("chunks", level, status.message or "ok", chunks),
        joints,
        _output_report(output, rate_hz, gate),
        _stop_report(status, gate),
    ]


def joints_report(
    joints: JointStateHealth, rate_hz: float, age_s: float, problem: str
) -> PartHealth:
    """Return how the joint states come."""
    fault = problem or joints.fault
    values = {
        "rate [Hz]": rate_hz,
        "age [s]": age_s,
        "received": joints.count,
        "not taken": joints.refused,
    }
    level = Level.ERROR if problem else Level.WARN if fault else Level.OK
    return PartHealth("joint_states", level, fault or "ok", values)


def _output_report(output: Output, rate_hz: float, gate: Gate) -> PartHealth:
    """Return what is commanded; a stream must hold its rate."""
    values = {
        "topics": ", ".join(output.topics) or "none",
        "published": output.published,
        "rate [Hz]": rate_hz,
        "ticks lost": output.lost,
    }
    if gate.conflict:
        return PartHealth("output", Level.ERROR, gate.conflict, values)
    if output.published and rate_hz < 0.9 * output.rate_hz:
        return PartHealth("output", Level.WARN, f"slower than {output.rate_hz} Hz", values)
    return PartHealth("output", values=values)


def _stop_report(status: ExecutorStatus, gate: Gate) -> PartHealth:
    values = {"dry run": status.dry_run, "speed": status.speed}
    if gate.e_stop.reason:
        return PartHealth("stop", Level.WARN, f"stopped: {gate.e_stop.reason}", values)
    if not gate.active:
        return PartHealth("stop", Level.WARN, "inactive", values)
    return PartHealth("stop", Level.OK, gate.jumped or "may move", values)
