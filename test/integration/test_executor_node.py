"""Chunks over real DDS: two trajectories with one stamp, or none at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dfm_vla_ros.msg import ExecutorStatus
from probe import HOME, Graph

from dfm_vla_ros.robot.joints import ARM_JOINTS, JOINT_NAMES


@pytest.fixture(scope="module")
def graph(start_graph: Callable[..., Graph]) -> Graph:
    made = start_graph("executor_node")
    made.play_joint_states()
    made.until(lambda: made.executor_status.state == ExecutorStatus.HOLDING, "holding executor")
    made.wait_matched()
    return made


def count(graph: Graph) -> list[int]:
    return [len(kept) for kept in graph.trajectories.values()]


def test_that_a_chunk_leads_to_two_trajectories_with_one_stamp(graph: Graph) -> None:
    before = count(graph)
    status = graph.send(graph.chunk())
    assert (status.error_code, status.message) == (ExecutorStatus.OK, "")
    graph.until(lambda: count(graph) == [n + 1 for n in before], "both trajectories")
    left, right = (graph.trajectories[arm][-1] for arm in ("left", "right"))
    assert left.header.stamp == right.header.stamp
    assert left.header.stamp.sec > 0
    for arm, message in (("left", left), ("right", right)):
        assert tuple(message.joint_names) == ARM_JOINTS[arm]
        first, last = message.points[0], message.points[-1]
        assert first.time_from_start.sec + first.time_from_start.nanosec > 0
        assert list(last.velocities) == [0.0] * 7


BROKEN: list[tuple[dict[str, Any], int, str]] = [
    ({"tokenizer_hash": "beef"}, ExecutorStatus.UNKNOWN_TOKENIZER, "same checkpoint"),
    ({"joint_names": JOINT_NAMES[::-1]}, ExecutorStatus.WRONG_JOINTS, "joint_names are"),
    ({"reference_positions": [np.nan] * 14}, ExecutorStatus.MALFORMED, "not finite"),
    ({"token": 64}, ExecutorStatus.MALFORMED, "token 64 is out of vocabulary"),
    ({"tokens": [1, 2, 3]}, ExecutorStatus.MALFORMED, "3 tokens, not 112"),
    ({"reference_positions": HOME + 1.0}, ExecutorStatus.LIMIT_VIOLATED, "left_"),
]


@pytest.mark.parametrize(("changes", "code", "message"), BROKEN)
def test_that_a_broken_chunk_is_refused_and_nothing_is_published(
    graph: Graph, changes: dict[str, Any], code: int, message: str
) -> None:
    before = count(graph)
    status = graph.send(graph.chunk(**changes))
    assert status.error_code == code
    assert message in status.message
    graph.send(graph.chunk())  # the sentinel: all that comes before it has come by then
    graph.until(lambda: count(graph) == [n + 1 for n in before], "the sentinel's trajectories")


def test_that_what_is_commanded_is_published_and_ends_where_the_chunk_ends(graph: Graph) -> None:
    graph.send(graph.chunk(token=42))
    graph.until(
        lambda: graph.executor_status.state == ExecutorStatus.HOLDING, "rest after the chunk"
    )
    expected = HOME + (42 - 32) * 2e-4
    expected[[6, 13]] = 0.035  # the grippers are open already
    graph.commanded.clear()
    graph.until(lambda: len(graph.commanded) > 5, "commanded joint states")
    np.testing.assert_allclose(graph.commanded[-1].position, expected, atol=1e-6)
    np.testing.assert_array_equal(graph.commanded[-1].velocity, np.zeros(14))
