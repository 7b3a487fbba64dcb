"""The policy node on simulated time: it is not ready before there is a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dfm_vla_ros.action import ExecuteInstruction
from dfm_vla_ros.msg import PolicyStatus
from probe import Graph
from rosgraph_msgs.msg import Clock
from small import INSTRUCTION

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
