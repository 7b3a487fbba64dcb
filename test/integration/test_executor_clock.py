"""A clock that jumps, and both arms in one controller."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from dfm_vla_ros.msg import ExecutorStatus
from probe import Graph
from robot_stub import Stub, hold_limit_s, unchanged
from rosgraph_msgs.msg import Clock
from trajectory_msgs.msg import JointTrajectory

from dfm_vla_ros.nodes.clock import from_nanoseconds, nanoseconds
from dfm_vla_ros.robot.joints import JOINT_NAMES


class Simulated(Stub):
    """Publishes /clock, which can be moved."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ended = threading.Event()
        self.joined: list[JointTrajectory] = []
        topic = "both_arms_controller/joint_trajectory"
        self.graph.node.create_subscription(JointTrajectory, topic, self.joined.append, 50)
        self._clock_topic = self.graph.node.create_publisher(Clock, "/clock", 10)
        threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self) -> None:
        while not self.ended.wait(0.01):
            self._clock_topic.publish(Clock(clock=from_nanoseconds(self.now_ns())))


@pytest.fixture(scope="module")
def graph(start_graph: Callable[..., Graph], wide_checkpoint: Path) -> Graph:
    return start_graph(
        "executor_node",
        folder=wide_checkpoint,
        executor_node__use_sim_time=True,
        executor_node__output="joined_trajectory",
    )


@pytest.fixture(scope="module")
def robot(graph: Graph) -> Iterator[Simulated]:
    made = Simulated(graph)
    made.until_state(ExecutorStatus.HOLDING)
    yield made
    made.ended.set()


def test_that_both_arms_go_to_one_controller(graph: Graph, robot: Simulated) -> None:
    robot.move()
    graph.until(lambda: bool(robot.joined), "the trajectory")
    assert tuple(robot.joined[0].joint_names) == JOINT_NAMES
    assert list(robot.joined[0].points[-1].velocities) == [0.0] * 14
    assert robot.counts() == [0, 0]


@pytest.mark.parametrize(
    "jump_s", [-10.0, *(pytest.param(s, marks=pytest.mark.slow) for s in (-0.5, 100.0))]
)
def test_that_a_jump_of_the_clock_brakes_and_waits_for_joint_states(
    graph: Graph, robot: Simulated, jump_s: float
) -> None:
    robot.move()
    before = len(robot.joined)
    seen_before = robot.moving_chunk(goal_id=f"seen before {jump_s}")
    robot.change = lambda message: None
    place, jumped_s = np.array(graph.commanded[-1].position), time.monotonic()
    robot.offset_ns += round(jump_s * 1e9)
    graph.until(lambda: not robot.is_moving(), "hold", 10.0)
    assert time.monotonic() - jumped_s < hold_limit_s()
    assert np.abs(np.array(graph.commanded[-1].position) - place).max() < 0.1
    graph.until(lambda: robot.status.error_code == ExecutorStatus.CLOCK_JUMPED, "a reason")
    told_s = float(re.search(r"the clock jumped by (\S+) s", robot.status.message).group(1))
    assert told_s == pytest.approx(jump_s, abs=0.2)
    robot.until_state(ExecutorStatus.WAITING)
    fresh = graph.chunk(goal_id="fresh", observation_stamp=from_nanoseconds(robot.now_ns()))
    assert graph.send(fresh).error_code == ExecutorStatus.CLOCK_JUMPED
    robot.change = unchanged
    robot.until_state(ExecutorStatus.HOLDING)
    stale = graph.send(seen_before)
    late = ExecutorStatus.TOO_LATE if jump_s > 0 else ExecutorStatus.CLOCK_JUMPED
    assert stale.error_code == late, stale.message
    robot.move()
    graph.until(lambda: len(robot.joined) >= before + 2, "the brake and the next")
    assert len(robot.joined) == before + 2
    age_s = (robot.now_ns() - nanoseconds(robot.joined[-1].header.stamp)) * 1e-9
    assert -0.1 < age_s < 5.0
