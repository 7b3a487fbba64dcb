"""A graph that runs for long while things go wrong at random, and what became of it."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import linear_regression
from typing import Any

import psutil
from builtin_interfaces.msg import Time
from std_srvs.srv import Trigger

from dfm_vla_ros.action import ExecuteInstruction
from dfm_vla_ros.children import end
from dfm_vla_ros.graph.client import GraphClient, GraphSilent
from dfm_vla_ros.graph.processes import Children
from dfm_vla_ros.msg import ActionChunk, ExecutorStatus, PolicyStatus
from dfm_vla_ros.nodes import qos

RECOVERY_S = 90.0
"""Until a goal must move the arms again: a killed policy loads its checkpoint first."""
SETTLE_S = 3.0
UNHEARD_S = 5.0
"""Without an answer, a goal went to a node that was just discovered, or just killed."""


@dataclass
class Record:
    """What happened.

    Attributes:
        faults: how often each was done.
        recoveries_s: from each fault to the next executed chunk [s].
        chunks: by what became of them, over all lives of the executor.
        unaccounted: statuses whose numbers did not add up.
        memory_mb: process -> [(time [s], resident [MB])] of its current life.
        lives: process -> number of starts.
    """

    faults: Counter = field(default_factory=Counter)
    recoveries_s: list[float] = field(default_factory=list)
    chunks: Counter = field(default_factory=Counter)
    unaccounted: int = 0
    memory_mb: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    lives: Counter = field(default_factory=Counter)

    def growth_mb_per_min(self, process: str) -> float:
        """Return the slope of a process's memory over the last two thirds of its life."""
        samples = self.memory_mb[process]
        late = samples[len(samples) // 3 :]
        return 60 * linear_regression(*zip(*late, strict=True)).slope if len(late) > 2 else 0.0


class Soak:
    """Does faults to a running graph, each followed by a goal that must move the arms again."""

    def __init__(
        self,
        client: GraphClient,
        children: Children,
        parameters: dict[str, dict[str, Any]],
        task: str,
        seed: int,
    ) -> None:
        """``parameters`` start a node that was killed again; ``seed`` makes the faults."""
        self._client, self._children, self._parameters = client, children, parameters
        self._task, self._random = task, random.Random(seed)
        self.record = Record(lives=Counter(list(children.members)))
        self._last: ExecutorStatus | None = None
        self._began_s = time.monotonic()
        node = client.node
        self._chunks = node.create_publisher(ActionChunk, "action_chunk", qos.COMMAND)
        self._newest: ActionChunk | None = None
        node.create_subscription(ActionChunk, "action_chunk", self._keep, qos.COMMAND)
        node.create_subscription(ExecutorStatus, "executor_node/status", self._count, qos.STATUS)
        self._services = {
            name: node.create_client(Trigger, f"executor_node/{name}")
            for name in ("stop", "resume")
        }
        self.faults: dict[str, Callable[[], None]] = {
            "cancel": self._cancel,
            "race": self._race,
            "stop": self._stop,
            "corrupt chunks": self._corrupt,
            "twin paused": self._pause_twin,
            "reset": self._reset,
            "bad instruction": self._bad_instruction,
            "policy killed": lambda: self._kill("policy_node"),
            "executor killed": lambda: self._kill("executor_node"),
        }

    def run(self, seconds: float, report: Callable[[str], None]) -> Record:
        """Go on for ``seconds`` of real time; ``report`` gets a line per fault."""
        end_s = time.monotonic() + seconds
        self._move("the start")
        while time.monotonic() < end_s:
            name = self._random.choice(list(self.faults))
            self._send()
            self._serve(self._random.uniform(0.0, 3.0))
            self.faults[name]()
            self.record.faults[name] += 1
            took_s = self._move(name)
            self.record.recoveries_s.append(took_s)
            report(f"{time.monotonic() - self._began_s:6.0f} s  {name:16} back in {took_s:.1f} s")
        self._rest()
        return self.record

    # What goes wrong

    def _cancel(self) -> None:
        handle = self._send()
        self._serve(self._random.uniform(0.0, 1.0))
        handle.cancel_goal_async()

    def _race(self) -> None:
        for _ in range(5):
            self._client.goals.send_goal_async(self._goal())

    def _stop(self) -> None:
        self._call("stop")
        self._serve(1.0)
        self._call("resume")

    def _corrupt(self) -> None:
        """Publish broken copies of the newest chunk."""
        for _ in range(20):
            chunk = ActionChunk() if self._newest is None else self._newest
            broken = ActionChunk(
                **{
                    name: getattr(chunk, name)
                    for name in chunk.get_fields_and_field_types()
                    if name != self._random.choice(("tokens", "joint_names", "horizon"))
                }
            )
            match self._random.randrange(4):
                case 0:
                    broken.reference_positions = [float("nan")] * 14
                case 1:
                    broken.tokens = [65535] * len(broken.tokens)
                case 2:
                    broken.tokenizer_hash = "0" * 64
                case _:
                    broken.control_period = -1.0
            self._chunks.publish(broken)
            self._serve(0.02)

    def _pause_twin(self) -> None:
        twin = self._children.members["sim_node"]
        twin.signal(signal.SIGSTOP)
        self._serve(self._random.uniform(0.2, 2.0))
        twin.signal(signal.SIGCONT)

    def _reset(self) -> None:
        self._client.reset(self._task, self._random.randrange(2_000_000, 3_000_000))

    def _bad_instruction(self) -> None:
        text = self._random.choice(["", "x" * 1_000_000, "qwertz", "\ufffd" * 20])
        self._client.goals.send_goal_async(ExecuteInstruction.Goal(instruction=text))

    def _kill(self, name: str) -> None:
        end(self._children.members[name].process, number=signal.SIGKILL)
        died = self._client.node.get_clock().now().to_msg()
        self.record.memory_mb.pop(name, None)
        self.record.lives[name] += 1
        self._children.start_node(name, self._parameters[name])
        self._client.until(
            lambda: told_since(self._client.statuses.get(f"{name}/status"), died),
            RECOVERY_S,
            f"status of the new {name}",
        )
        self._client.wait_ready(RECOVERY_S)

    # What must go on

    def _goal(self) -> ExecuteInstruction.Goal:
        sentence = self._client.statuses["task_status"].instruction
        return ExecuteInstruction.Goal(instruction=sentence, timeout=60.0)

    def _send(self) -> Any:
        """Send a goal, and again if nobody has heard it yet; return its handle."""
        tries: list[Any] = []
        end_s = time.monotonic() + RECOVERY_S
        while not any(sent.done() for sent in tries):
            if time.monotonic() > end_s:
                raise GraphSilent(f"no answer to a goal within {RECOVERY_S:.0f} s")
            tries.append(self._client.goals.send_goal_async(self._goal()))
            self._serve(UNHEARD_S, until=tries[-1].done)
        return next(sent.result() for sent in tries if sent.done())

    def _move(self, after: str) -> float:
        """Send goals in a fresh episode until a chunk of one is executed; return the time."""
        began_s = time.monotonic()
        self._reset()
        before = self.record.chunks["executed"]
        while self.record.chunks["executed"] == before:
            if time.monotonic() - began_s > RECOVERY_S:
                raise GraphSilent(
                    f"no chunk was executed within {RECOVERY_S:.0f} s after: {after}"
                )
            self._send()
            self._serve(SETTLE_S, until=lambda: self.record.chunks["executed"] > before)
        self._measure()
        return time.monotonic() - began_s

    def _rest(self) -> None:
        """Cancel what runs and wait until every chunk has become something."""
        self._send().cancel_goal_async()
        self._serve(SETTLE_S)

    def _call(self, name: str) -> None:
        answer = self._services[name].call_async(Trigger.Request())
        self._client.until(answer.done, RECOVERY_S, f"answer of executor_node/{name}")

    def _serve(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Serve callbacks for so long, or until something holds."""
        end_s = time.monotonic() + seconds
        self._client.until(lambda: until() or time.monotonic() >= end_s, seconds + 5.0, "time")

    # Book-keeping

    def _keep(self, chunk: ActionChunk) -> None:
        if chunk.tokens:
            self._newest = chunk

    def _count(self, status: ExecutorStatus) -> None:
        """Add up what became of the chunks since the status before."""
        parts = status.executed + status.refused + status.superseded + status.pending
        self.record.unaccounted += status.received != parts
        last = self._last
        if last is None or status.run_id != last.run_id:
            last = ExecutorStatus()  # its first life, or another one
        for name in ("received", "executed", "refused", "superseded"):
            self.record.chunks[name] += getattr(status, name) - getattr(last, name)
        self._last = status

    def _measure(self) -> None:
        at_s = time.monotonic() - self._began_s
        for name, child in self._children.members.items():
            resident = resident_mb(child.process.pid)
            if resident is not None:
                self.record.memory_mb.setdefault(name, []).append((at_s, resident))


def told_since(status: PolicyStatus | ExecutorStatus | None, moment: Time) -> bool:
    """Return whether a status was made after ``moment``; an older one may still be on its way."""
    if status is None:
        return False
    stamp = status.header.stamp
    return (stamp.sec, stamp.nanosec) > (moment.sec, moment.nanosec)


def resident_mb(pid: int) -> float | None:
    """Return the resident memory of a process [MB], None if it is gone."""
    try:
        return psutil.Process(pid).memory_info().rss / 2**20
    except psutil.NoSuchProcess:
        return None
