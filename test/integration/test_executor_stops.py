"""What stops the arms, that it ends with a hold, and that only a new goal moves them again."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dfm_vla_ros.msg import ExecutorStatus
from probe import HOME, Graph
from robot_stub import HOLD_S, Stub, hold_limit_s, now_ns
from trajectory_msgs.msg import JointTrajectory

from dfm_vla_ros.graph.client import GraphClient
from dfm_vla_ros.nodes import qos

LEFT = "left_arm_controller/joint_trajectory"


@pytest.fixture(scope="module")
def graph(start_graph: Callable[..., Graph], wide_checkpoint: Path) -> Graph:
    return start_graph("executor_node", folder=wide_checkpoint)


@pytest.fixture(scope="module")
def robot(graph: Graph) -> Stub:
    made = Stub(graph)
    made.until_state(ExecutorStatus.HOLDING)
    graph.wait_matched()
    return made


@pytest.fixture
def rival(graph: Graph) -> Iterator[GraphClient]:
    """Another node in the same domain."""
    domain = graph.client.node.context.get_domain_id()
    with GraphClient(domain, use_sim_time=False, check=lambda: None) as made:
        yield made


def test_that_a_stop_brakes_and_is_latched(graph: Graph, robot: Stub) -> None:
    robot.move()
    before, called_ns = robot.counts(), now_ns()
    assert robot.call("stop").success
    assert robot.seconds_to_hold(called_ns) < hold_limit_s()
    robot.until_state(ExecutorStatus.STOPPED)
    assert robot.status.stop_reason == "~/stop was called"
    refused = graph.send(robot.moving_chunk(goal_id="sent while stopped"))
    assert refused.error_code == ExecutorStatus.NOT_ACTIVE
    assert "call ~/resume" in refused.message
    assert robot.diagnosis("stop").message == "stopped: ~/stop was called"
    assert robot.call("resume").success
    robot.until_state(ExecutorStatus.HOLDING)
    for goal in (f"goal {robot.goal}", "sent while stopped"):
        refused = graph.send(robot.moving_chunk(goal_id=goal))
        assert refused.error_code == ExecutorStatus.NOT_ACTIVE
        assert "send a new goal" in refused.message
    robot.sentinel()
    assert robot.counts() == [n + 2 for n in before]  # the brake and the sentinel


def test_that_a_chunk_observed_before_the_resume_moves_nothing(graph: Graph, robot: Stub) -> None:
    robot.until_state(ExecutorStatus.HOLDING)
    seen_before = robot.moving_chunk(goal_id="not seen yet")
    robot.call("stop")
    robot.call("resume")
    assert graph.send(seen_before).error_code == ExecutorStatus.NOT_ACTIVE


def test_that_deactivating_ends_with_a_hold_and_activating_needs_a_new_goal(
    graph: Graph, robot: Stub
) -> None:
    robot.move()
    before, asked_ns = robot.counts(), now_ns()
    assert robot.transition("deactivate")
    robot.until_state(ExecutorStatus.INACTIVE)
    graph.until(lambda: robot.counts() == [n + 1 for n in before], "the hold")
    assert (now_ns() - asked_ns) * 1e-9 < 1.0
    for kept in graph.trajectories.values():
        last = kept[-1].points[-2]  # where it comes to rest; there it is told to stay
        assert list(last.velocities) == [0.0] * 7
        assert last.time_from_start.sec == 0
        assert last.time_from_start.nanosec < HOLD_S * 1e9
    count = robot.status.received
    refused = graph.send(graph.chunk(goal_id=f"goal {robot.goal}"))
    assert (refused.error_code, refused.received) == (ExecutorStatus.NOT_ACTIVE, count + 1)
    assert robot.transition("activate")
    robot.until_state(ExecutorStatus.HOLDING)
    graph.wait_matched()
    refused = graph.send(robot.moving_chunk())
    assert refused.error_code == ExecutorStatus.NOT_ACTIVE
    robot.sentinel()
    assert robot.counts() == [n + 2 for n in before]


def test_that_deactivating_at_rest_repeats_the_hold_where_the_arms_are(
    graph: Graph, robot: Stub
) -> None:
    robot.move()
    robot.until_state(ExecutorStatus.HOLDING)
    at_rest, before = robot.commanded(), robot.counts()
    assert robot.transition("deactivate")
    graph.until(lambda: robot.counts() == [n + 1 for n in before], "the hold")
    left = graph.trajectories["left"][-1].points
    assert [list(point.positions) for point in left] == [pytest.approx(at_rest[:7])] * 2
    assert robot.transition("activate")
    robot.until_state(ExecutorStatus.HOLDING)
    graph.wait_matched()


def test_that_a_transition_that_is_impossible_is_answered(graph: Graph, robot: Stub) -> None:
    assert not robot.transition("activate")
    robot.until_state(ExecutorStatus.HOLDING)


def test_that_it_counts_on_after_a_new_configuration(graph: Graph, robot: Stub) -> None:
    received = robot.move().received
    for label in ("deactivate", "cleanup", "configure", "activate"):
        assert robot.transition(label)
    robot.until_state(ExecutorStatus.HOLDING)
    graph.wait_matched()
    assert robot.status.received == received
    assert robot.move().received == received + 1


def test_that_a_subscriber_is_no_rival_and_a_publisher_is(
    graph: Graph, robot: Stub, rival: GraphClient
) -> None:
    rival.node.create_subscription(JointTrajectory, LEFT, lambda _: None, qos.COMMAND)
    robot.move()
    before = robot.counts()
    other = rival.node.create_publisher(JointTrajectory, LEFT, qos.COMMAND)
    graph.until(lambda: graph.node.count_publishers(LEFT) == 2, "the rival")
    # When the executor itself hears of the rival is up to DDS: 0.1 to 0.7 s were seen.
    conflict = ExecutorStatus.CONFLICT
    graph.until(lambda: robot.status.error_code == conflict, "a reason", timeout_s=5.0)
    assert robot.seconds_to_hold(now_ns()) < hold_limit_s()
    text = "/demo_client publishes on /left_arm_controller"
    graph.until(lambda: text in robot.status.message, "the rival's name")
    refused = graph.send(graph.chunk(goal_id="during the conflict"))
    assert refused.error_code == ExecutorStatus.CONFLICT
    rival.node.destroy_publisher(other)
    graph.until(lambda: graph.node.count_publishers(LEFT) == 1, "the rival's end")
    robot.until_state(ExecutorStatus.HOLDING)
    graph.until(
        lambda: not_conflict(graph.send(robot.moving_chunk(goal_id="during the conflict"))),
        "an end of the conflict",
    )
    assert "send a new goal" in robot.status.message
    robot.sentinel()
    # The brake and the sentinel; no brake if DDS found the rival when the motion was over.
    assert robot.counts() in ([n + 2 for n in before], [n + 1 for n in before])


def not_conflict(status: ExecutorStatus) -> bool:
    return status.error_code != ExecutorStatus.CONFLICT


def test_that_two_executors_of_one_robot_both_refuse(
    graph: Graph, robot: Stub, wide_checkpoint: Path
) -> None:
    seconds: list[ExecutorStatus] = []
    graph.node.create_subscription(ExecutorStatus, "second/status", seconds.append, qos.STATUS)
    robot.move()
    before = robot.counts()
    words = ["--ros-args", "-r", "__node:=second", "-p", f"checkpoint:='{wide_checkpoint}'"]
    second = graph.children.start("second", "dfm_vla_ros.nodes.executor_node", *words)
    conflict = ExecutorStatus.CONFLICT
    graph.until(lambda: bool(seconds) and seconds[-1].error_code == conflict, "its conflict")
    graph.until(lambda: robot.status.error_code == conflict, "the first's conflict")
    chunk = robot.moving_chunk(goal_id="for both")
    graph.until(lambda: "/second publishes on" in graph.send(chunk).message, "its name")
    graph.until(lambda: "/executor_node publishes on" in seconds[-1].message, "the first's name")
    graph.until(lambda: graph.send(chunk) and seconds[-1].refused > 0, "its refusal")
    assert seconds[-1].executed == 0
    assert robot.counts() in (before, [n + 1 for n in before])  # at most the brake
    graph.children.stop("second")
    assert second.process.returncode == 0
    graph.until(lambda: graph.node.count_publishers(LEFT) == 1, "one executor")
    graph.until(lambda: not_conflict(graph.send(robot.moving_chunk())), "an end of the conflict")


def test_that_an_interrupt_ends_with_a_hold_as_the_last_message(graph: Graph, robot: Stub) -> None:
    robot.move()
    before = robot.counts()
    executor = graph.children.members["executor_node"]
    executor.signal(signal.SIGINT)
    assert executor.process.wait(10.0) == 0
    graph.until(lambda: graph.node.count_publishers(LEFT) == 0, "the end of the publisher")
    graph.until(lambda: robot.counts() == [n + 1 for n in before], "the hold")
    for kept in graph.trajectories.values():
        assert list(kept[-1].points[-1].velocities) == [0.0] * 7
        assert kept[-1].points[-2].time_from_start.nanosec < HOLD_S * 1e9


def test_that_an_executor_that_was_killed_and_restarted_starts_from_where_the_arms_are(
    graph: Graph, robot: Stub, wide_checkpoint: Path
) -> None:
    graph.children.stop("executor_node")
    graph.client.statuses.clear()
    graph.children.start_node("executor_node", {"checkpoint": wide_checkpoint})
    robot.until_state(ExecutorStatus.HOLDING)
    robot.sentinel()
    graph.children.members["executor_node"].signal(signal.SIGKILL)
    before = robot.counts()
    graph.children.stop("executor_node")
    graph.client.statuses.clear()
    graph.children.start_node("executor_node", {"checkpoint": wide_checkpoint})
    robot.until_state(ExecutorStatus.HOLDING)
    robot.sentinel()
    assert robot.counts() == [n + 1 for n in before]  # nothing moved by itself
    first = graph.trajectories["left"][-1].points[0]
    assert list(first.positions) == pytest.approx(list(HOME[:7]))
