"""Two robots in two namespaces of one domain keep apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest
from dfm_vla_ros.msg import ExecutorStatus
from sensor_msgs.msg import JointState

pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS installation, not by pip")

from launched import Launched, Probe
from small import INSTRUCTION

from dfm_vla_ros.robot.joints import ARMS, JOINT_NAMES

pytestmark = pytest.mark.launch

ROBOTS = ("one", "two")
NODES = ("policy_node", "executor_node")
SHARED = {"/rosout", "/parameter_events", "/diagnostics", "/clock"}
"""Absolute by convention; what is on them names its node."""


def start(start_launch: Callable[..., Launched], file: str, **given: str) -> Iterator[list[Probe]]:
    """Launch a file once a robot; yield a probe in each namespace."""
    launches = [start_launch(file, namespace=robot, **given) for robot in ROBOTS]
    with ExitStack() as stack:
        probes = [
            stack.enter_context(Probe(launched, robot))
            for launched, robot in zip(launches, ROBOTS, strict=True)
        ]
        for probe in probes:
            probe.wait_active(*NODES)
        yield probes
    for launched in launches:
        assert launched.end() == 0
        assert set(launched.endings.values()) == {"finished cleanly"}, launched.output


@pytest.fixture
def twins(start_launch: Callable[..., Launched]) -> Iterator[list[Probe]]:
    yield from start(start_launch, "bringup.launch.py", use_robot_state_publisher="false")


@pytest.fixture(scope="module", params=["piper.launch.py", "cobot_magic.launch.py"])
def pipers(
    start_launch: Callable[..., Launched], request: pytest.FixtureRequest
) -> Iterator[tuple[str, list[Probe]]]:
    for probes in start(start_launch, request.param):
        yield request.param, probes


def topics_of(probe: Probe, robot: str, nodes: tuple[str, ...] = NODES) -> set[str]:
    """Return every topic that a robot's nodes publish or subscribe."""
    found = set()
    for node in nodes:
        for ask in (
            probe.node.get_publisher_names_and_types_by_node,
            probe.node.get_subscriber_names_and_types_by_node,
        ):
            found |= {name for name, _ in ask(node, f"/{robot}")}
    return found


def test_that_a_goal_of_one_robot_moves_no_other(twins: list[Probe]) -> None:
    one, two = twins
    handle = one.start_goal(INSTRUCTION)
    one.until(lambda: one.executor_status.executed >= 2, "two chunks executed")
    one.cancel(handle)
    two.until(lambda: two.executor_status.header.stamp.sec, "the other executor's status")
    assert two.executor_status.received == 0
    nodes = (*NODES, "sim_node")
    mine, others = (topics_of(one, robot, nodes) - SHARED for robot in ROBOTS)
    assert {name.removeprefix("/one") for name in mine} == {
        name.removeprefix("/two") for name in others
    }
    assert not mine & others


def test_that_the_drivers_topics_are_those_of_each_robots_namespace(
    pipers: tuple[str, list[Probe]],
) -> None:
    file, (probe, _) = pipers
    command, states = {
        "piper.launch.py": ("{arm}_arm/joint_ctrl_single", "{arm}_arm/joint_states_single"),
        "cobot_magic.launch.py": ("master/joint_{arm}", "puppet/joint_{arm}"),
    }[file]
    everything = []
    for robot in ROBOTS:
        found = topics_of(probe, robot)
        for arm in ARMS:
            assert f"/{robot}/{command.format(arm=arm)}" in found
            assert f"/{robot}/{states.format(arm=arm)}" in found
        for camera in "flr":
            assert f"/{robot}/camera_{camera}/color/image_raw" in found
        everything.append(found - SHARED)
    assert not everything[0] & everything[1]


def test_that_an_executor_reads_its_own_drivers_and_no_others(
    pipers: tuple[str, list[Probe]],
) -> None:
    file, (one, _) = pipers
    commanded: list[JointState] = []
    others: list[JointState] = []
    for robot, kept in zip(ROBOTS, (commanded, others), strict=True):
        topic = f"/{robot}/commanded_joint_states"
        one.node.create_subscription(JointState, topic, kept.append, 1)
        assert one.node.count_publishers(topic) == 1
    stop = play_drivers(one, file)
    one.until(lambda: len(commanded) > 50, "half a second of commanded joint states")
    assert one.executor_status.state == ExecutorStatus.STOPPED
    assert list(commanded[-1].name) == list(JOINT_NAMES)
    np.testing.assert_allclose(commanded[-1].position, [*POSITIONS, 0.03] * 2)
    assert not others
    stop()


POSITIONS = (0.0, 1.455, -0.729, 0.0, 0.931, 0.0)


def numbered(first: int, end: int) -> list[str]:
    """Return joint names with the numbers from ``first`` to before ``end``."""
    return [f"joint{number}" for number in range(first, end)]


def play_drivers(probe: Probe, file: str) -> Callable[[], None]:
    """Be the drivers of both arms, at rest, grippers 0.06 m open from finger to finger."""
    topic, names = {
        "piper.launch.py": ("{}_arm/joint_states_single", [*numbered(1, 7), "gripper"]),
        "cobot_magic.launch.py": ("puppet/joint_{}", numbered(0, 7)),
    }[file]
    topics = [probe.node.create_publisher(JointState, topic.format(arm), 1) for arm in ARMS]

    def publish() -> None:
        message = JointState(name=names, position=[*POSITIONS, 0.06], velocity=[0.0] * 6)
        message.header.stamp = probe.node.get_clock().now().to_msg()
        for publisher in topics:
            publisher.publish(message)

    timer = probe.node.create_timer(0.02, publish)
    return timer.cancel
