"""A restarted executor is told from one that goes on."""

from __future__ import annotations

import pytest
from dfm_vla_ros.msg import ExecutorStatus

from dfm_vla_ros.nodes.executor_watch import is_another_life


def status(received: int, chunk_id: int, goal_id: str = "g") -> ExecutorStatus:
    return ExecutorStatus(received=received, chunk_id=chunk_id, goal_id=goal_id)


@pytest.mark.parametrize(
    ("before", "after", "another"),
    [
        (status(3, 3), status(3, 3), False),
        (status(3, 3), status(4, 3), False),  # refused
        (status(3, 3), status(4, 4), False),
        (status(3, 3), status(4, 1, "h"), False),
        (status(3, 3), status(0, 0, ""), True),
        (status(3, 3), status(1, 4), True),
        (status(1, 1), status(1, 2), True),  # its first is the next one
    ],
)
def test_that_one_that_takes_another_chunk_without_counting_it_is_another(
    before: ExecutorStatus, after: ExecutorStatus, another: bool
) -> None:
    assert is_another_life(before, after) == another
