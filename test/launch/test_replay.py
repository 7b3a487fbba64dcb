"""replay.launch.py: a recording through policy and monitor, and only where nothing can move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dfm_vla_ros.msg import ActionChunk
from visualization_msgs.msg import MarkerArray

pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS installation, not by pip")

from launched import Launched, Probe
from small import INSTRUCTION

from dfm_vla_ros.graph.processes import Children
from dfm_vla_ros.nodes import qos

pytestmark = pytest.mark.launch


@pytest.fixture(scope="module")
def bag(
    start_launch: Callable[..., Launched], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Some chunks of the shipped policy in the twin."""
    folder = tmp_path_factory.mktemp("recorded") / "bag"
    launched = start_launch("bringup.launch.py", use_robot_state_publisher="false")
    with Probe(launched) as probe, Children(launched.domain, folder.parent) as children:
        probe.wait_active("policy_node", "executor_node")
        children.start_node("recorder", {"folder": folder})
        probe.until(lambda: probe.node.count_subscribers("action_chunk") >= 2, "recorder")
        chunks: list[ActionChunk] = []
        probe.node.create_subscription(ActionChunk, "action_chunk", chunks.append, 10)
        handle = probe.start_goal(INSTRUCTION)
        probe.until(lambda: len(chunks) >= 5, "chunks")
        probe.cancel(handle)
        children.stop("recorder")
    launched.end()
    yield folder


def test_that_it_refuses_to_play_beside_a_robot(
    bag: Path, start_launch: Callable[..., Launched]
) -> None:
    robot = start_launch("bringup.launch.py", use_robot_state_publisher="false")
    with Probe(robot) as probe:
        probe.wait_active("executor_node")
    launched = start_launch("replay.launch.py", bag=str(bag), use_monitor="false")
    launched.wait()
    assert "not played: " in launched.output
    assert "a robot" in launched.output
    assert robot.process.poll() is None
    robot.end()


def test_that_the_policy_says_something_to_a_recording_and_no_command_leaves(
    bag: Path, start_launch: Callable[..., Launched]
) -> None:
    launched = start_launch("replay.launch.py", bag=str(bag))
    chunks: list[ActionChunk] = []
    markers: list[MarkerArray] = []
    commands: list[str] = []
    with Probe(launched) as probe:
        node = probe.node
        node.create_subscription(
            ActionChunk, "replay/action_chunk", chunks.append, qos.EVERY_COMMAND
        )
        node.create_subscription(
            MarkerArray, "monitor_node/markers", markers.append, qos.SENSOR_SOURCE
        )

        def look() -> bool:
            names = dict(node.get_topic_names_and_types())
            commands.extend(
                name
                for name in names
                if "joint_trajectory" in name or "joint_command" in name or name == "/action_chunk"
            )
            return bool(chunks) and bool(markers)

        probe.until(look, "chunks and markers of a replay")
        probe.listen_to_the_end()
    assert not commands
    assert chunks[0].instruction == INSTRUCTION
    assert launched.endings["play_node"] == "finished cleanly"
