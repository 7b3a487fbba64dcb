"""Simulated time: the policy is not ready before there is a time, the executor ends even so."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dfm_vla_ros.action import ExecuteInstruction
from dfm_vla_ros.msg import ExecutorStatus, PolicyStatus
from probe import Graph
from rosgraph_msgs.msg import Clock
from small import INSTRUCTION

from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.client import GraphClient
from dfm_vla_ros.nodes.domain import own_domain
from dfm_vla_ros.nodes.processes import Children
from dfm_vla_ros.nodes.stamps import from_nanoseconds

Result = ExecuteInstruction.Result


@pytest.fixture(scope="module")
def graph(start_graph: Callable[..., Graph]) -> Graph:
    return start_graph("policy_node", policy_node__use_sim_time=True)


def status(graph: Graph) -> PolicyStatus:
    return graph.client.statuses.get("policy_node/status", PolicyStatus())


def test_that_a_goal_before_the_clock_starts_is_refused_and_one_after_is_not(graph: Graph) -> None:
    graph.until(lambda: "/clock" in status(graph).message, "a word about the clock")
    assert send(graph).error_code == Result.NOT_READY
    topic = graph.node.create_publisher(Clock, "/clock", 10)
    ticks = iter(range(1, 10**9))

    def tick() -> None:
        topic.publish(Clock(clock=from_nanoseconds(1_700_000_000 * 10**9 + next(ticks) * 10**7)))

    graph.node.create_timer(0.01, tick)
    graph.until(lambda: status(graph).state == PolicyStatus.READY, "ready")
    result = send(graph)
    assert result.error_code == Result.TIMEOUT
    assert 0.5 <= result.duration < 5.0


def send(graph: Graph) -> Result:
    """Send a goal of half a second and return its result."""
    goal = ExecuteInstruction.Goal(instruction=INSTRUCTION, timeout=0.5)
    sent = graph.client.goals.send_goal_async(goal)
    graph.until(sent.done, "answer to the goal")
    ended = sent.result().get_result_async()
    graph.until(ended.done, "end of the goal")
    return ended.result().result


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_that_an_executor_without_a_clock_tells_its_status_and_ends_on_a_signal(
    checkpoint: Path, tmp_path: Path, number: signal.Signals
) -> None:
    seen: list[ExecutorStatus] = []
    with own_domain() as domain, Children(domain, tmp_path) as children:
        given = {"checkpoint": checkpoint, "use_sim_time": True}
        executor = children.start_node("executor_node", given)
        with GraphClient(domain, use_sim_time=False, check=children.check) as client:
            topic = "executor_node/status"
            client.node.create_subscription(ExecutorStatus, topic, seen.append, qos.STATUS)
            client.until(lambda: len(seen) >= 3, 60.0, "status at 1 Hz")
        executor.signal(number)
        began = time.monotonic()
        assert executor.process.wait(30.0) == 0
        assert time.monotonic() - began < 5.0
