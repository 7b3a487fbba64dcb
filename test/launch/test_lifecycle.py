"""What launch says of starting and ending: autostart, a wrong file, a node that dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from trajectory_msgs.msg import JointTrajectory

pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS installation, not by pip")

from launched import PATIENCE_S, Launched, Probe
from small import INSTRUCTION

from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import ARMS

pytestmark = pytest.mark.launch

NODES = ("executor_node", "policy_node")


def test_that_without_autostart_both_wait_to_be_told(
    start_launch: Callable[..., Launched],
) -> None:
    launched = start_launch("policy.launch.py", autostart="false", namespace="waiting")
    with Probe(launched, "waiting") as probe:
        assert [probe.state(node) for node in NODES] == ["unconfigured"] * 2
        for node in NODES:
            assert probe.change(node, Transition.TRANSITION_CONFIGURE)
            assert probe.state(node) == "inactive"
            assert probe.change(node, Transition.TRANSITION_ACTIVATE)
            assert probe.state(node) == "active"
    assert launched.end() == 0
    assert launched.endings == dict.fromkeys(NODES, "finished cleanly"), launched.output


def test_that_a_typo_in_the_params_file_ends_the_launch_and_is_named(
    start_launch: Callable[..., Launched], tmp_path: Path
) -> None:
    text = resource_path("config/dual_arm.yaml").read_text(encoding="utf-8")
    file = tmp_path / "typo.yaml"
    file.write_text(text.replace("  lead:", "  laed:"), encoding="utf-8")
    launched = start_launch(
        "bringup.launch.py", use_robot_state_publisher="false", params_file=str(file)
    )
    launched.wait()
    assert "executor_node has no parameter 'laed'; did you mean lead?" in launched.output
    assert "executor_node ended" in launched.output or "was required" in launched.output
    assert "exit code 1" in launched.endings["executor_node"]
    assert launched.endings["sim_node"] == "finished cleanly", launched.output


def test_that_ctrl_c_while_the_nodes_are_starting_ends_them_in_order(
    start_launch: Callable[..., Launched],
) -> None:
    launched = start_launch("policy.launch.py", namespace="hasty")
    end_s = time.monotonic() + PATIENCE_S
    while launched.output.count("process started") < len(NODES):
        assert time.monotonic() < end_s, launched.output
        time.sleep(0.02)
    time.sleep(1.5)  # amid the imports
    assert launched.end() == 0
    assert launched.endings == dict.fromkeys(NODES, "finished cleanly"), launched.output
    assert "Traceback" not in launched.output


@pytest.mark.parametrize("victim", NODES)
def test_that_when_one_dies_in_motion_the_last_command_ends_at_rest_and_all_end(
    start_launch: Callable[..., Launched], victim: str
) -> None:
    namespace = f"killed_{victim}"
    launched = start_launch(
        "bringup.launch.py", namespace=namespace, use_robot_state_publisher="false"
    )
    commands: dict[str, list[JointTrajectory]] = {arm: [] for arm in ARMS}
    with Probe(launched, namespace) as probe:
        for arm, kept in commands.items():
            topic = f"{arm}_arm_controller/joint_trajectory"
            probe.node.create_subscription(JointTrajectory, topic, kept.append, 10)
        probe.wait_active(*NODES)
        probe.start_goal(INSTRUCTION)
        probe.until(lambda: probe.executor_status.executed >= 2, "two chunks executed")
        os.kill(pid_of(launched, victim), signal.SIGKILL)
        probe.listen_to_the_end()
    for kept in commands.values():
        assert not np.any(kept[-1].points[-1].velocities)
    endings = launched.endings
    assert endings.pop(victim).startswith("died")
    assert set(endings) == {*NODES, "sim_node"} - {victim}
    assert set(endings.values()) == {"finished cleanly"}, launched.output


def pid_of(launched: Launched, node: str) -> int:
    """Return the process of a node, a child of launch."""
    launch = launched.process.pid
    children = Path(f"/proc/{launch}/task/{launch}/children").read_text().split()
    (pid,) = (
        int(child)
        for child in children
        if f"/{node}" in Path(f"/proc/{child}/cmdline").read_text()
    )
    return pid
