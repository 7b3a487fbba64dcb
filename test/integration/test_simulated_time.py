"""Simulated time: the policy is not ready before there is a time, the executor ends even so."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dfm_vla_ros.action import ExecuteInstruction
from dfm_vla_ros.msg import ExecutorStatus, PolicyStatus
from probe import Graph
from rosgraph_msgs.msg import Clock
from small import INSTRUCTION

from dfm_vla_ros.graph.client import GraphClient
from dfm_vla_ros.graph.processes import Children
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import from_nanoseconds
from dfm_vla_ros.nodes.qos import own_domain

Result = ExecuteInstruction.Result


@pytest.fixture(scope="module")
def graph(start_graph: Callable[..., Graph]) -> Graph:
    return start_graph("policy_node", policy_node__use_sim_time=True)


def status(graph: Graph) -> PolicyStatus:
    return graph.client.statuses.get("policy_node/status", PolicyStatus())


@pytest.fixture(scope="module")
def time_s() -> list[float]:
    """What /clock shows once it is started; a test may change it [s]."""
    return [1_700_000_000.0]


def start_clock(graph: Graph, time_s: list[float]) -> None:
    """Publish /clock at 100 Hz."""
    topic = graph.node.create_publisher(Clock, "/clock", 10)

    def tick() -> None:
        time_s[0] += 0.01
        topic.publish(Clock(clock=from_nanoseconds(round(time_s[0] * 1e9))))

    graph.node.create_timer(0.01, tick)


def test_that_a_goal_before_the_clock_starts_is_refused_and_one_after_is_not(
    graph: Graph, time_s: list[float]
) -> None:
    graph.until(lambda: "/clock" in status(graph).message, "a word about the clock")
    assert send(graph).error_code == Result.NOT_READY
    start_clock(graph, time_s)
    graph.until(lambda: status(graph).state == PolicyStatus.READY, "ready")
    result = send(graph)
    assert result.error_code == Result.TIMEOUT
    assert 0.5 <= result.duration < 5.0


def test_that_a_clock_that_goes_back_ends_the_goal_with_a_hold(
    graph: Graph, time_s: list[float]
) -> None:
    graph.until(lambda: graph.node.count_publishers("action_chunk") >= 2, "the policy's chunks")
    handle = ask(graph, 60.0)
    graph.until(lambda: status(graph).goal_id != "", "a goal that runs")
    time_s[0] -= 100.0
    ended = handle.get_result_async()
    graph.until(ended.done, "end of the goal")
    assert ended.result().result.error_code == Result.CLOCK_JUMPED
    assert "the clock went back by 99." in ended.result().result.error_msg
    assert send(graph).error_code == Result.TIMEOUT  # the sentinel, whose hold is the last
    graph.until(lambda: len(graph.chunks) >= 3, "holds of all three goals")
    goal_id = bytes(handle.goal_id.uuid).hex()
    assert [chunk.hold for chunk in graph.chunks if chunk.goal_id == goal_id] == [True]


def ask(graph: Graph, timeout_s: float) -> Any:
    """Send a goal; return its handle."""
    goal = ExecuteInstruction.Goal(instruction=INSTRUCTION, timeout=timeout_s)
    sent = graph.client.goals.send_goal_async(goal)
    graph.until(sent.done, "answer to the goal")
    return sent.result()


def send(graph: Graph) -> Result:
    """Send a goal of half a second and return its result."""
    ended = ask(graph, 0.5).get_result_async()
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
