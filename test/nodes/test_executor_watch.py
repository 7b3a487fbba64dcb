"""A restarted executor is told from one that goes on."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from dfm_vla_ros.msg import ExecutorStatus

from dfm_vla_ros.nodes.clock import StampBase
from dfm_vla_ros.nodes.inputs import ExecutorHealth


class Node:
    """As much of a node as the watch needs."""

    def create_subscription(self, kind: type, topic: str, callback: Callable, _: object) -> None:
        self.hear = callback


def status(run_id: str, received: int = 0) -> ExecutorStatus:
    return ExecutorStatus(run_id=run_id, received=received, state=ExecutorStatus.HOLDING)


@pytest.mark.parametrize(
    ("runs", "restarts"),
    [
        ([("a", 0), ("a", 1), ("a", 2)], 0),
        ([("a", 3), ("b", 0)], 1),
        ([("a", 0), ("b", 0)], 1),  # killed before it could report its first chunk
        ([("a", 1), ("b", 2)], 1),
        ([("a", 1), ("b", 0), ("a", 2)], 2),  # two at once
    ],
)
def test_that_a_goal_loses_its_executor_to_another_process_whatever_that_has_counted(
    runs: list[tuple[str, int]], restarts: int
) -> None:
    node = Node()
    watch = ExecutorHealth(node, StampBase(), lambda: None)
    first, *others = (status(*run) for run in runs)
    node.hear(first)
    before, began_s = watch.restarts, time.monotonic()
    for message in others:
        node.hear(message)
    assert watch.restarts - before == restarts
    assert ("restarted" in watch.loss(began_s, before)) == bool(restarts)
