"""The JointState stream for drivers without a controller: steady, within limits, held."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from dfm_vla_ros.msg import ExecutorStatus
from probe import HOME, Graph
from robot_stub import FIRST_JOINTS, Stub, hold_limit_s, now_ns
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from dfm_vla_ros.nodes.clock import nanoseconds
from dfm_vla_ros.nodes.messages import doubles
from dfm_vla_ros.robot.joints import ARMS

RATE_HZ, SCALE, HEARTBEAT_S = 200.0, 2.0, 1.0
NAMES = [*(f"joint{i}" for i in range(1, 7)), "gripper"]
FACTORS = np.array([1.0] * 6 + [SCALE])


class Arms(Stub):
    """Each arm sends joint states of its own, under its driver's names; with a heartbeat."""

    def __post_init__(self) -> None:
        super().__post_init__()
        node = self.graph.node
        self._arm_topics = [
            node.create_publisher(JointState, f"{arm}_arm/joint_states", 5) for arm in ARMS
        ]
        self.streams: list[list[JointState]] = [[] for _ in ARMS]
        self.came_s: list[float] = []
        for arm, kept in zip(ARMS, self.streams, strict=True):
            node.create_subscription(JointState, f"{arm}_arm/joint_command", kept.append, 500)
        self.beat: bool | None = True
        self._beats = node.create_publisher(Bool, "heartbeat", 5)
        # In a thread: the test does not serve its callbacks all the time.
        self.ended = threading.Event()
        threading.Thread(target=self._send_beats, daemon=True).start()

    def _send_beats(self) -> None:
        while not self.ended.wait(0.05):
            if self.beat is not None:
                self._beats.publish(Bool(data=self.beat))

    def _publish(self) -> None:
        stamp = self.graph.node.get_clock().now().to_msg()
        for topic, positions in zip(self._arm_topics, (HOME[:7], HOME[7:]), strict=True):
            message = JointState(name=NAMES, position=doubles(positions * FACTORS))
            message.header.stamp = stamp
            topic.publish(message)
        super()._publish()  # on joint_states, which nobody reads here but the test's own count

    def samples(self, arm: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return times [s], positions and velocities of one arm's stream in our units."""
        kept = list(self.streams[arm])
        stamps = [nanoseconds(message.header.stamp) for message in kept]
        return (
            np.array([stamp - stamps[0] for stamp in stamps]) * 1e-9,
            np.array([message.position for message in kept]) / FACTORS,
            np.array([message.velocity for message in kept]) / FACTORS,
        )

    def rate_hz(self, seconds: float) -> float:
        """Return the rate of the stream over so long from now on."""
        first = len(self.streams[0])
        end_s = time.monotonic() + seconds
        self.graph.until(lambda: time.monotonic() > end_s, "time")
        stamps = [nanoseconds(message.header.stamp) for message in self.streams[0][first:]]
        return (len(stamps) - 1) / ((stamps[-1] - stamps[0]) * 1e-9)


@pytest.fixture(scope="module")
def graph(start_graph: Callable[..., Graph], wide_checkpoint: Path) -> Graph:
    return start_graph(
        "executor_node",
        folder=wide_checkpoint,
        executor_node__output="joint_states",
        executor_node__stream_rate=RATE_HZ,
        executor_node__arm_joint_states=True,
        executor_node__arm_joint_names=NAMES,
        executor_node__gripper_scale=SCALE,
        executor_node__heartbeat_timeout=HEARTBEAT_S,
        executor_node__start_stopped=True,
    )


@pytest.fixture(scope="module")
def robot(graph: Graph) -> Iterator[Arms]:
    made = Arms(graph)
    made.until_state(ExecutorStatus.STOPPED)
    yield made
    made.ended.set()


def test_that_it_starts_stopped_and_resumes_on_request(graph: Graph, robot: Arms) -> None:
    assert robot.status.stop_reason == "start_stopped is true"
    assert graph.send(graph.chunk(goal_id="early")).error_code == ExecutorStatus.NOT_ACTIVE
    assert robot.call("resume").success
    robot.until_state(ExecutorStatus.HOLDING)


def test_that_nothing_is_streamed_before_the_first_chunk_then_without_a_jump(
    graph: Graph, robot: Arms
) -> None:
    graph.until(
        lambda: all(graph.node.count_publishers(f"{arm}_arm/joint_command") for arm in ARMS),
        "publishers",
    )
    assert robot.streams == [[], []]
    robot.move()
    graph.until(lambda: all(robot.streams), "streams")
    for arm, kept in enumerate(robot.streams):
        assert kept[0].name == NAMES
        # On busy cores the first sample may lie some milliseconds into the motion.
        np.testing.assert_allclose(kept[0].position, HOME[:7] * FACTORS, atol=1e-3)
        assert kept[0].position[6] == pytest.approx(0.07), arm


def test_that_the_stream_keeps_every_limit_through_seams_and_holds(
    graph: Graph, robot: Arms
) -> None:
    """Chunks that replace one another in mid-motion, a broken one, and rest."""
    for length in (0.15, 0.4, 0.0):
        robot.move()
        for _ in range(2):
            end_s = time.monotonic() + length
            graph.until(lambda end_s=end_s: time.monotonic() > end_s, "time")
            graph.send(robot.moving_chunk())
    graph.send(robot.moving_chunk(tokenizer_hash="beef"))
    robot.until_state(ExecutorStatus.HOLDING)
    velocity = np.array([5.0, 5.0, 5.0, 5.0, 5.0, 3.0, 1.0])
    for arm in range(2):
        times, positions, velocities = robot.samples(arm)
        steps = np.diff(times)
        assert (steps > 0).all()
        assert (np.abs(np.diff(positions, axis=0)) <= velocity * steps[:, None] + 1e-6).all()
        assert (np.abs(velocities) <= velocity + 1e-9).all()
        bends = np.abs(np.diff(velocities, axis=0)) / steps[:, None]
        assert bends.max() <= 60.0 + 1e-3
        # What is streamed is the motion whose velocity is streamed: no step in between.
        mean = (velocities[1:] + velocities[:-1]) / 2
        error = np.abs(np.diff(positions, axis=0) - mean * steps[:, None])
        # Of a velocity that changes by at most A dt, the mean of its ends errs by A dt / 4.
        excess = (error - 60.0 * steps[:, None] ** 2 / 4).max(axis=1)
        worst = int(np.argmax(excess))
        assert excess[worst] <= 1e-6, (
            steps[worst],
            error[worst],
            velocities[worst - 1 : worst + 3],
        )


def test_that_the_stream_goes_on_with_the_hold_at_its_rate(graph: Graph, robot: Arms) -> None:
    robot.until_state(ExecutorStatus.HOLDING)
    commanded = robot.commanded()
    assert robot.rate_hz(1.5) == pytest.approx(RATE_HZ, rel=0.05)
    _, positions, velocities = robot.samples()
    np.testing.assert_allclose(positions[-1], commanded[:7], atol=1e-9)
    assert not velocities[-1].any()


def test_that_a_false_heartbeat_and_a_silent_one_stop_and_hinder_resuming(
    graph: Graph, robot: Arms
) -> None:
    for beat, delay_s, reason in (
        (False, 0.05, "the heartbeat says false"),
        (None, HEARTBEAT_S, "the heartbeat is silent for 1."),
    ):
        robot.move()
        robot.beat, lost_ns = beat, now_ns()
        assert robot.seconds_to_hold(lost_ns) < delay_s + hold_limit_s()
        robot.until_state(ExecutorStatus.STOPPED)
        assert reason in robot.status.stop_reason
        refusal = robot.call("resume")
        assert not refusal.success
        assert "the heartbeat" in refusal.message
        robot.beat = True
        graph.until(lambda: robot.call("resume").success, "an end of the stop")
        refused = graph.send(robot.moving_chunk())
        assert refused.error_code == ExecutorStatus.NOT_ACTIVE


def test_that_deactivating_streams_the_brake_to_its_end_and_then_nothing(
    graph: Graph, robot: Arms
) -> None:
    robot.move()
    assert robot.transition("deactivate")
    robot.until_state(ExecutorStatus.INACTIVE)
    ended_ns, count = nanoseconds(robot.status.header.stamp), -1
    while count < len(robot.streams[0]):  # on a busy machine much is still under way
        count, end_s = len(robot.streams[0]), time.monotonic() + 0.3
        graph.until(lambda end_s=end_s: time.monotonic() > end_s, "time")
    times, _, velocities = robot.samples()
    stamps = [nanoseconds(message.header.stamp) for message in robot.streams[0]]
    assert sum(stamp > ended_ns for stamp in stamps) < 5
    assert not velocities[-1].any()
    bends = np.abs(np.diff(velocities[-60:], axis=0)) / np.diff(times[-60:])[:, None]
    assert bends.max() <= 60.0 + 1e-3
    silent = len(robot.streams[0])
    assert robot.transition("activate")
    robot.until_state(ExecutorStatus.HOLDING)
    assert len(robot.streams[0]) == silent  # not before the next chunk
    robot.move()
    graph.until(lambda: len(robot.streams[0]) > silent, "stream")
    np.testing.assert_allclose(robot.streams[0][silent].position, HOME[:7] * FACTORS, atol=1e-3)


def burn(ended: float) -> None:
    while time.monotonic() < ended:
        pass


@pytest.fixture
def busy_cores() -> Iterator[None]:
    """Every core computes for 20 s."""
    cores = len(os.sched_getaffinity(0))
    end_s = time.monotonic() + 20.0
    burners = [multiprocessing.Process(target=burn, args=(end_s,)) for _ in range(cores)]
    for burner in burners:
        burner.start()
    yield
    for burner in burners:
        burner.terminate()
        burner.join()


@pytest.mark.slow
def test_that_the_rate_is_held_on_busy_cores(
    graph: Graph, robot: Arms, busy_cores: None, capsys: pytest.CaptureFixture
) -> None:
    robot.move()
    first, end_s = len(robot.streams[0]), time.monotonic() + 15.0
    while time.monotonic() < end_s:  # with chunks that replace one another meanwhile
        graph.send(robot.moving_chunk())
        pause_s = time.monotonic() + 0.3
        graph.until(lambda pause_s=pause_s: time.monotonic() > pause_s, "time")
    times = np.array([nanoseconds(m.header.stamp) for m in robot.streams[0][first:]]) * 1e-9
    rate_hz, gaps = (len(times) - 1) / (times[-1] - times[0]), np.diff(times) * 1e3
    windows = np.histogram(times - times[0], np.arange(0.0, times[-1] - times[0], 1.0))[0]
    chunks = {item.key: item.value for item in robot.diagnosis("chunks").values}
    with capsys.disabled():
        print(
            f"\n{rate_hz:.2f} Hz; per second {windows.min()} .. {windows.max()}; gaps median "
            f"{np.median(gaps):.2f}, 99% {np.percentile(gaps, 99):.2f}, max {gaps.max():.1f} ms"
            f"; {chunks}"
        )
    assert rate_hz == pytest.approx(RATE_HZ, rel=0.05)


def test_that_both_first_joints_moved(robot: Arms) -> None:
    """The motions above were no standing still."""
    assert FIRST_JOINTS == [0, 7]
    for arm in range(2):
        assert np.ptp(robot.samples(arm)[1][:, 0]) > 0.2
