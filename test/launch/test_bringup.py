"""bringup.launch.py on the twin: it comes up, does what it is told and goes down in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from dfm_vla_ros.action import ExecuteInstruction

pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS installation, not by pip")

from launched import Launched, Probe
from small import INSTRUCTION

pytestmark = pytest.mark.launch

Result = ExecuteInstruction.Result
NODES = ("policy_node", "executor_node")


@pytest.fixture(scope="module")
def bringup(start_launch: Callable[..., Launched]) -> Launched:
    return start_launch("bringup.launch.py", use_robot_state_publisher="false")


@pytest.fixture(scope="module")
def probe(bringup: Launched) -> Iterator[Probe]:
    with Probe(bringup) as made:
        made.wait_active(*NODES)
        yield made


def test_that_the_nodes_start_themselves(probe: Probe) -> None:
    assert [probe.state(node) for node in NODES] == ["active", "active"]
    names = {name for name, _ in probe.node.get_node_names_and_namespaces()}
    assert {*NODES, "sim_node"} <= names


def test_that_a_goal_moves_the_arms(probe: Probe) -> None:
    handle = probe.start_goal(INSTRUCTION)
    assert handle.accepted
    probe.until(lambda: probe.executor_status.executed >= 3, "three chunks executed")
    result = probe.cancel(handle)
    assert result.error_code == Result.CANCELED
    assert result.chunks >= 3


def test_that_ctrl_c_ends_every_process_cleanly(bringup: Launched, probe: Probe) -> None:
    assert bringup.end() == 0
    expected = {name: "finished cleanly" for name in (*NODES, "sim_node")}
    assert bringup.endings == expected, bringup.output
    assert "Traceback" not in bringup.output
