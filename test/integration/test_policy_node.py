"""Goals over real DDS, with twin and executor: they flow, end by name, and leave the arms at rest.

One graph for all tests, in this order: the last two kill its processes.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from dfm_vla_ros.msg import ExecutorStatus
from probe import Graph
from robot import Conversation, Result, identity, seconds
from small import INSTRUCTION


@pytest.fixture(scope="module")
def graph(start_graph: Callable[..., Graph]) -> Graph:
    made = start_graph("policy_node", "sim_node", "executor_node", policy_node__stale_timeout=3.0)
    made.client.wait_ready(120.0)
    made.wait_matched(policies=1)
    made.client.reset("place_block", 3)
    return made


@pytest.fixture(scope="module")
def talk(graph: Graph) -> Conversation:
    return Conversation(graph)


def test_that_a_goal_leads_to_chunks_that_say_what_made_them(
    graph: Graph, talk: Conversation
) -> None:
    handle = talk.send()
    talk.wait_chunks(3)
    _, result = talk.cancel(handle)
    assert [chunk.chunk_id for chunk in talk.made()] == list(range(1, result.chunks + 1))
    stamps = np.array([seconds(chunk.observation_stamp) for chunk in talk.made()])
    assert (np.diff(stamps) > 0.38).all()
    for chunk in talk.made():
        assert chunk.instruction == INSTRUCTION
        assert chunk.goal_id == identity(handle)
        assert chunk.tokenizer_hash == graph.tokenizer.hash
        assert len(chunk.checkpoint_hash) == 64


def test_that_a_goal_that_is_not_reached_in_time_is_aborted(
    graph: Graph, talk: Conversation
) -> None:
    status, result = talk.end(talk.send(timeout_s=0.5))
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.TIMEOUT)
    assert result.duration >= 0.5


def test_that_every_chunk_is_executed_or_refused_and_counted(
    graph: Graph, talk: Conversation
) -> None:
    graph.until(lambda: graph.executor_status.received >= len(talk.made()), "count of all chunks")
    status = graph.executor_status
    accounted = status.executed + status.refused + status.superseded + status.pending
    assert status.received == accounted
    # On busy cores a chunk can come too late to be executed; not most of them.
    assert status.executed > status.refused, status.message


def test_that_a_cancelled_goal_makes_no_chunk_more(graph: Graph, talk: Conversation) -> None:
    handle = talk.send()
    talk.wait_chunks(1)
    status, result = talk.cancel(handle)
    assert (status, result.error_code) == (GoalStatus.STATUS_CANCELED, Result.CANCELED)
    graph.until(
        lambda: graph.executor_status.state == ExecutorStatus.HOLDING, "rest after the cancel"
    )
    assert talk.last_word(handle).hold
    assert result.chunks == sum(chunk.goal_id == identity(handle) for chunk in talk.made())


def test_that_a_newer_goal_takes_over(graph: Graph, talk: Conversation) -> None:
    old = talk.send()
    talk.wait_chunks(1)
    new = talk.send("put the block on the plate")
    assert talk.end(old)[1].error_code == Result.PREEMPTED
    talk.wait_chunks(1)
    assert talk.made()[-1].instruction == "put the block on the plate"
    talk.cancel(new)


@pytest.mark.parametrize(
    ("instruction", "message"),
    [("", "0 bytes long"), ("x" * 600, "600 bytes long"), ("qwertz asdf", "no word")],
)
def test_that_an_instruction_that_says_nothing_is_refused(
    talk: Conversation, instruction: str, message: str
) -> None:
    status, result = talk.end(talk.send(instruction))
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.BAD_INSTRUCTION)
    assert message in result.error_msg


def test_that_a_goal_whose_cameras_fall_silent_is_aborted_by_name(
    graph: Graph, talk: Conversation
) -> None:
    handle = talk.send()
    talk.wait_chunks(1)
    graph.children.stop("sim_node")
    status, result = talk.end(handle)
    assert (status, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.STALE_OBSERVATION)
    assert "third_camera/image_raw is " in result.error_msg
    assert "allowed is 0.5 s" in result.error_msg


def test_that_the_graph_goes_on_with_a_twin_that_was_restarted(
    graph: Graph, talk: Conversation
) -> None:
    graph.children.start_node("sim_node", {})
    graph.client.reset("place_block", 4)
    handle = talk.send()
    talk.wait_chunks(2)
    talk.cancel(handle)


def test_that_a_policy_that_is_shut_down_ends_its_goal(graph: Graph, talk: Conversation) -> None:
    handle = talk.send()
    ended = handle.get_result_async()
    talk.wait_chunks(1)
    graph.children.members["policy_node"].signal(signal.SIGINT)
    graph.until(ended.done, "end of the goal", timeout_s=10.0)
    assert ended.result().status == GoalStatus.STATUS_ABORTED
    assert ended.result().result.error_msg == "the node is shutting down"
    graph.children.stop("policy_node")
    graph.until(lambda: not graph.client.goals.server_is_ready(), "end of the action")
    for _ in range(20):  # what the old node said last must not count as the new one's status
        graph.client.node.executor.spin_once(timeout_sec=0.01)
    graph.client.statuses.pop("policy_node/status", None)
    graph.children.start_node("policy_node", {"checkpoint": graph.checkpoint})
    graph.client.wait_ready(120.0)
    graph.wait_matched(policies=1)


def positions(graph: Graph) -> np.ndarray:
    return np.array(graph.measured[-1].position)


def wait_still(graph: Graph) -> np.ndarray:
    """Wait until no joint has moved for 0.3 s; return where they are."""

    def is_still() -> bool:
        recent = np.array([message.position for message in graph.measured[-30:]])
        return len(recent) == 30 and float(np.ptp(recent, axis=0).max()) < 2e-3

    graph.measured.clear()
    graph.until(is_still, "arms at rest")
    return positions(graph)


def test_that_the_arms_come_to_rest_and_hold_when_the_policy_is_killed(
    graph: Graph, talk: Conversation
) -> None:
    talk.send()
    talk.wait_chunks(2)
    graph.children.members["policy_node"].signal(signal.SIGKILL)
    graph.until(
        lambda: graph.executor_status.state == ExecutorStatus.HOLDING, "an executor that holds"
    )
    rest = wait_still(graph)
    assert np.abs(graph.commanded[-1].velocity).max() == 0.0
    np.testing.assert_allclose(wait_still(graph), rest, atol=2e-3)


def test_that_the_arms_hold_when_the_executor_is_killed_too(
    graph: Graph, talk: Conversation
) -> None:
    rest = wait_still(graph)
    graph.send(graph.chunk(token=60, reference_positions=graph.commanded[-1].position))
    graph.until(
        lambda: np.abs(graph.measured[-1].velocity).max() > 1e-3, "arms in motion", timeout_s=5.0
    )
    graph.children.members["executor_node"].signal(signal.SIGKILL)
    moved = wait_still(graph)
    assert np.abs(moved - rest).max() > 1e-3
    assert np.abs(moved[:6] - rest[:6]).max() < 60 * 2e-4
    np.testing.assert_allclose(wait_still(graph), moved, atol=2e-3)
