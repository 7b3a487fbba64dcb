"""A dry run plans and reports, and has no way to move anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dfm_vla_ros.msg import ExecutorStatus
from probe import HOME, Graph
from robot_stub import Stub

from dfm_vla_ros.robot.joints import ARMS


@pytest.fixture(scope="module")
def robot(start_graph: Callable[..., Graph], wide_checkpoint: Path) -> Stub:
    made = Stub(
        start_graph("executor_node", folder=wide_checkpoint, executor_node__publish_commands=False)
    )
    made.until_state(ExecutorStatus.HOLDING)
    return made


def test_that_nothing_can_be_commanded_while_chunks_are_planned(robot: Stub) -> None:
    graph = robot.graph
    for kind in ("_arm_controller/joint_trajectory", "_arm/joint_command"):
        assert not any(graph.node.count_publishers(f"{arm}{kind}") for arm in ARMS)
    assert not graph.node.count_publishers("both_arms_controller/joint_trajectory")
    robot.goal += 1
    status = graph.send(robot.moving_chunk())
    assert (status.error_code, status.dry_run) == (ExecutorStatus.OK, True)
    graph.until(lambda: robot.status.executed == 1, "the chunk's motion")
    np.testing.assert_array_equal(robot.commanded(), HOME)
    assert robot.counts() == [0, 0]


def test_that_it_refuses_as_if_it_moved(robot: Stub) -> None:
    refused = robot.graph.send(robot.moving_chunk(tokenizer_hash="beef"))
    assert refused.error_code == ExecutorStatus.UNKNOWN_TOKENIZER
    assert robot.call("stop").success
    robot.until_state(ExecutorStatus.STOPPED)
