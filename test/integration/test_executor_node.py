"""Chunks over real DDS: two trajectories with one stamp, or none at all, and a brake."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from dfm_vla_ros.msg import ActionChunk, ExecutorStatus, TaskStatus
from probe import HOME, Graph
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.serialization import serialize_message
from robot_stub import (
    FIRST_JOINTS,
    FULL_S,
    HOLD_S,
    STEP,
    ZERO,
    Stub,
    hold_limit_s,
    now_ns,
    unchanged,
)
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from dfm_vla_ros.graph.soak import resident_mb
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.messages import from_message
from dfm_vla_ros.robot.joints import ARM_JOINTS, JOINT_NAMES

MAXIMUM_AGE_S = 0.2


@pytest.fixture(scope="module")
def graph(start_graph: Callable[..., Graph], wide_checkpoint: Path) -> Graph:
    return start_graph(
        "executor_node",
        folder=wide_checkpoint,
        executor_node__maximum_joint_state_age=MAXIMUM_AGE_S,
    )


@pytest.fixture(scope="module")
def robot(graph: Graph) -> Stub:
    made = Stub(graph)
    made.until_state(ExecutorStatus.HOLDING)
    graph.wait_matched()
    return made


@pytest.fixture(autouse=True)
def good_joint_states(robot: Stub) -> None:
    robot.change = unchanged


def test_that_a_chunk_leads_to_two_trajectories_with_one_stamp(graph: Graph, robot: Stub) -> None:
    before = robot.counts()
    robot.goal += 1
    status = graph.send(robot.moving_chunk())
    assert (status.error_code, status.message) == (ExecutorStatus.OK, "")
    graph.until(lambda: robot.counts() == [n + 1 for n in before], "both trajectories")
    left, right = (graph.trajectories[arm][-1] for arm in ("left", "right"))
    assert left.header.stamp == right.header.stamp
    assert left.header.stamp.sec > 0
    for arm, message in (("left", left), ("right", right)):
        assert tuple(message.joint_names) == ARM_JOINTS[arm]
        first, last = message.points[0], message.points[-1]
        assert first.time_from_start.sec + first.time_from_start.nanosec > 0
        assert list(last.velocities) == [0.0] * 7


def test_that_the_status_tells_of_the_chunk_and_its_phase(graph: Graph, robot: Stub) -> None:
    robot.move(chunk_id=7, inference_time=0.25)
    graph.until(lambda: robot.status.executed and not robot.status.pending, "executed chunk")
    status = robot.status
    assert (status.goal_id, status.chunk_id) == (f"goal {robot.goal}", 7)
    assert (status.inference_time, status.last_step) == (0.25, 8)
    assert status.time_scale >= 1.0
    assert status.step_period == pytest.approx(0.1 * status.time_scale)
    assert (status.stop_reason, status.dry_run, status.speed) == ("", False, 1.0)
    assert status.tokenizer_hash == graph.tokenizer.hash


def test_that_what_is_commanded_ends_where_the_chunk_ends(graph: Graph, robot: Stub) -> None:
    robot.until_state(ExecutorStatus.HOLDING)
    began = robot.commanded()
    robot.move()
    robot.until_state(ExecutorStatus.HOLDING)
    expected = began.copy()
    expected[FIRST_JOINTS] += robot.direction * 31 * 1e-2
    np.testing.assert_allclose(robot.commanded(), expected, atol=1e-6)
    np.testing.assert_array_equal(graph.commanded[-1].velocity, np.zeros(14))


BROKEN: list[tuple[dict[str, Any], int, str]] = [
    ({"tokenizer_hash": "beef"}, ExecutorStatus.UNKNOWN_TOKENIZER, "same checkpoint"),
    ({"reference_positions": [np.nan] * 14}, ExecutorStatus.MALFORMED, "not finite"),
    ({"tokens": [64] * 112}, ExecutorStatus.MALFORMED, "token 64 is out of vocabulary"),
    ({"reference_positions": HOME + 1.0}, ExecutorStatus.LIMIT_VIOLATED, "left_"),
]
MORE: list[tuple[dict[str, Any], int, str]] = [
    ({"joint_names": JOINT_NAMES[::-1]}, ExecutorStatus.WRONG_JOINTS, "joint_names are"),
    ({"tokens": [1, 2, 3]}, ExecutorStatus.MALFORMED, "3 tokens, not 112"),
    ({"control_period": -1.0}, ExecutorStatus.MALFORMED, "control_period is -1.0"),
    ({"mode": 9}, ExecutorStatus.MALFORMED, "mode is 9"),
]


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [*BROKEN, *(pytest.param(*row, marks=pytest.mark.slow) for row in MORE)],
)
def test_that_a_broken_chunk_brakes_at_once_and_nothing_follows(
    graph: Graph, robot: Stub, changes: dict[str, Any], code: int, message: str
) -> None:
    robot.move()
    before = robot.counts()
    broken = robot.moving_chunk(**changes)
    sent_ns = now_ns()
    status = graph.send(broken)
    assert (status.error_code, status.refused) == (code, robot.status.refused)
    assert message in status.message
    assert robot.seconds_to_hold(sent_ns) < hold_limit_s()
    robot.sentinel()
    assert robot.counts() == [n + 2 for n in before]  # the brake and the sentinel
    for kept in graph.trajectories.values():
        assert list(kept[-2].points[-1].velocities) == [0.0] * 7


def test_that_a_broken_chunk_at_rest_publishes_nothing(graph: Graph, robot: Stub) -> None:
    robot.until_state(ExecutorStatus.HOLDING)
    before = robot.counts()
    graph.send(robot.moving_chunk(tokenizer_hash="beef"))
    robot.sentinel()
    assert robot.counts() == [n + 1 for n in before]


def test_that_a_chunk_that_is_too_late_leaves_the_motion_alone(graph: Graph, robot: Stub) -> None:
    late = robot.moving_chunk()
    late.observation_stamp.sec -= 5
    robot.move()
    before, sent_ns = robot.counts(), now_ns()
    status = graph.send(late)
    assert status.error_code == ExecutorStatus.TOO_LATE
    assert robot.seconds_to_hold(sent_ns) > HOLD_S
    assert robot.counts() == before


def test_that_a_hold_brakes_and_is_no_chunk(graph: Graph, robot: Stub) -> None:
    received = robot.move().received
    sent_ns = now_ns()
    graph._chunk_topic.publish(ActionChunk(hold=True))
    assert robot.seconds_to_hold(sent_ns) < hold_limit_s()
    graph.until(lambda: robot.status.step_period == 0.0, "a chunk that is not followed")
    assert robot.status.received == received


def test_that_a_torn_message_is_refused_and_counted(graph: Graph, robot: Stub) -> None:
    robot.move()
    whole, sent_ns = serialize_message(robot.moving_chunk()), now_ns()
    status = graph.send(whole[: len(whole) // 2])
    assert status.error_code == ExecutorStatus.MALFORMED
    assert "torn message" in status.message
    assert robot.seconds_to_hold(sent_ns) < hold_limit_s()


def test_that_text_that_is_no_utf8_and_a_long_one_do_no_harm(graph: Graph, robot: Stub) -> None:
    robot.until_state(ExecutorStatus.HOLDING)
    chunk = robot.moving_chunk(goal_id="a fresh goal", instruction="PLACEHOLDER" + "x" * 1_000_000)
    raw = serialize_message(chunk).replace(
        b"PLACEHOLDER", b"\xff\xfe\x80\x81\xff\xc0\xc1\xf5\x80\x80\x80"
    )
    assert graph.send(raw).error_code == ExecutorStatus.OK


def test_that_chunks_of_noise_never_end_the_node_nor_reach_the_arms(
    graph: Graph, robot: Stub
) -> None:
    rng = np.random.default_rng(7)
    good = robot.moving_chunk()
    before = {arm: len(kept) for arm, kept in graph.trajectories.items()}
    for _ in range(100):
        graph.send(spoiled(good, rng))
    robot.sentinel()
    for arm, kept in graph.trajectories.items():
        for message in kept[before[arm] :]:
            check_trajectory(message)


ODD = [float("nan"), float("inf"), -1e308, 1e308, -1.0, 0.0]
SPOILS: list[Callable[[ActionChunk, np.random.Generator], dict[str, Any]]] = [
    lambda _, rng: {"tokens": rng.integers(0, 65536, rng.integers(0, 300)).tolist()},
    lambda _, rng: {"reference_positions": rng.choice(ODD, rng.integers(0, 20)).tolist()},
    lambda _, rng: {"control_period": rng.choice(ODD)},
    lambda _, rng: {"expected_interval": rng.choice(ODD)},
    lambda _, rng: {"horizon": int(rng.integers(2**32))},
    lambda _, rng: {"mode": int(rng.integers(4, 256))},
    lambda _, rng: {"execute_steps": int(rng.integers(9, 2**32))},
    lambda _, rng: {"committed_steps": int(rng.integers(9, 2**32))},
    lambda _, rng: {
        "observation_stamp": Time(
            sec=int(rng.integers(-(2**31), 2**31)), nanosec=int(rng.integers(2**32))
        )
    },
]


def spoiled(good: ActionChunk, rng: np.random.Generator) -> ActionChunk | bytes:
    """Return a chunk with one random field, or random bytes of one."""
    if rng.random() < 0.3:
        raw = bytearray(serialize_message(good))
        for place in rng.integers(4, len(raw), 8):
            raw[place] = rng.integers(256)
        raw[-1] = 0  # a hold is no chunk
        return bytes(raw)
    fields = {name: getattr(good, name) for name in good.get_fields_and_field_types()}
    return ActionChunk(**{**fields, **SPOILS[rng.integers(len(SPOILS))](good, rng)})


def check_trajectory(message: JointTrajectory) -> None:
    """What joint_trajectory_controller asks, and the arm's limits at the points."""
    made = from_message(message)
    assert (np.diff(made.times_s) > 0).all() and made.times_s[0] > 0
    assert np.isfinite(made.positions).all() and np.isfinite(made.velocities).all()
    assert not made.velocities[-1].any()
    assert (np.abs(made.velocities) <= 5.0).all()
    assert (np.abs(made.positions) <= 3.2).all()


def missing(message: JointState) -> JointState:
    message.name, message.position = message.name[:-1], message.position[:-1]
    return message


def not_finite(message: JointState) -> JointState:
    message.position[3] = float("nan")
    return message


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda message: None, "is the robot publishing"),
        pytest.param(missing, "lack right_gripper", marks=pytest.mark.slow),
        (not_finite, "left_joint4 is nan, not finite"),
    ],
)
def test_that_a_motion_without_usable_joint_states_is_braked(
    graph: Graph, robot: Stub, change: Callable[[JointState], JointState | None], text: str
) -> None:
    robot.move()
    robot.change = change
    limit_ns = now_ns() + round(MAXIMUM_AGE_S * 1e9)
    assert robot.seconds_to_hold(now_ns()) < MAXIMUM_AGE_S + hold_limit_s()
    assert now_ns() < limit_ns + 1e9
    graph.until(lambda: robot.status.error_code == ExecutorStatus.NO_REFERENCE, "a reason")
    assert "joint states are 0.2" in robot.status.message
    assert text in robot.status.message
    before = robot.counts()
    refused = graph.send(robot.moving_chunk())
    assert refused.error_code == ExecutorStatus.NO_REFERENCE
    assert robot.diagnosis("joint_states").level == b"\x02"
    robot.change = unchanged
    robot.sentinel()
    assert robot.counts() == [n + 1 for n in before]


def test_that_arms_that_are_heard_of_again_start_from_where_they_are(
    graph: Graph, robot: Stub
) -> None:
    def elsewhere(message: JointState) -> JointState:
        message.position[0] += 0.1
        return message

    robot.move()
    robot.until_state(ExecutorStatus.HOLDING)
    for change, joint1 in ((elsewhere, HOME[0] + 0.1), (unchanged, HOME[0])):
        robot.change = lambda message: None
        silent_ns = now_ns() + round(2 * MAXIMUM_AGE_S * 1e9)
        graph.until(lambda ns=silent_ns: now_ns() > ns, "silence")
        robot.change = change
        graph.until(
            lambda wanted=joint1: abs(graph.commanded[-1].position[0] - wanted) < 1e-9,
            "a command where the arm is",
            timeout_s=5.0,
        )
    robot.sentinel()


def test_that_joint_states_are_found_by_name(graph: Graph, robot: Stub) -> None:
    def permuted(message: JointState) -> JointState:
        message.name, message.position = message.name[::-1], message.position[::-1]
        return message

    robot.change = permuted
    robot.move()
    began_ns = now_ns()
    assert robot.seconds_to_hold(began_ns) > HOLD_S


def test_that_slow_mode_slows_the_next_chunk(graph: Graph, robot: Stub) -> None:
    assert set_speed(graph, 0.5)
    assert robot.move().time_scale >= 2.0
    assert robot.status.speed == 0.5
    assert not set_speed(graph, 1.5)
    assert not set_speed(graph, float("nan"))
    assert set_speed(graph, 1.0)
    assert robot.move().time_scale < 2.0


def set_speed(graph: Graph, speed: float) -> bool:
    client = graph.node.create_client(SetParameters, "executor_node/set_parameters")
    graph.until(client.service_is_ready, "parameter service")
    value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=speed)
    answer = client.call_async(
        SetParameters.Request(parameters=[Parameter(name="speed", value=value)])
    )
    graph.until(answer.done, "answer of set_parameters")
    return answer.result().results[0].successful


def test_that_diagnostics_tell_rates_latency_and_refusals(graph: Graph, robot: Stub) -> None:
    chunks = {item.key: item.value for item in robot.diagnosis("chunks").values}
    assert int(chunks["refused UNKNOWN_TOKENIZER"]) >= 1
    assert 0 < float(chunks["observation to command, median [s]"]) < 0.5
    assert float(chunks["observation to command, 95th percentile [s]"]) < 1.0
    joints = {item.key: item.value for item in robot.diagnosis("joint_states").values}
    assert 30 < float(joints["rate [Hz]"]) < 60
    assert robot.diagnosis("stop").message == "may move"
    output = {item.key: item.value for item in robot.diagnosis("output").values}
    assert "left_arm_controller/joint_trajectory" in output["topics"]


def test_that_the_process_stays_small(graph: Graph) -> None:
    process = graph.children.members["executor_node"].process
    assert resident_mb(process.pid) < 200


def test_that_a_chunk_towards_a_collision_is_refused_with_both_bodies(
    graph: Graph, robot: Stub
) -> None:
    tokens = np.full((8, 14), ZERO)
    tokens[:, [1, 8]] += np.minimum(STEP * np.arange(1, 9), 31)[:, None]  # the shoulders bow
    for _ in range(6):
        robot.until_state(ExecutorStatus.HOLDING)
        before = robot.counts()
        status = graph.send(robot.moving_chunk(tokens=tokens.ravel().tolist()))
        if status.error_code != ExecutorStatus.OK:
            break
    assert status.error_code == ExecutorStatus.COLLISION, status.message
    # Both shoulders bow alike: which arm is first depends on where the tests before left them.
    bodies = r"(left|right)_\w+ and ((left|right)_\w+|table) would come within"
    assert re.search(bodies, status.message)
    robot.sentinel()
    assert robot.counts() == [n + 1 for n in before]


def test_that_a_twin_that_was_reset_in_mid_motion_is_told_to_stay_where_it_is(
    graph: Graph, robot: Stub
) -> None:
    topic = graph.node.create_publisher(TaskStatus, "task_status", qos.STATUS)
    graph.until(lambda: topic.get_subscription_count() >= 1, "the executor's ear")
    topic.publish(TaskStatus(task="place_block", seed=1, elapsed=5.0))
    robot.move()
    reset = TaskStatus(task="place_block", seed=2)
    reset.header.stamp = graph.node.get_clock().now().to_msg()
    topic.publish(reset)
    graph.until(lambda: len(graph.trajectories["left"][-1].points) == 2, "word to stay")
    for arm, expected in (("left", HOME[:7]), ("right", HOME[7:])):
        graph.until(lambda arm=arm: len(graph.trajectories[arm][-1].points) == 2, "word to stay")
        assert list(graph.trajectories[arm][-1].points[0].positions) == pytest.approx(expected)
    robot.sentinel()
    assert list(graph.trajectories["left"][-1].points[0].positions) == pytest.approx(HOME[:7])


def test_that_a_motion_lasts_longer_than_a_brake(graph: Graph, robot: Stub) -> None:
    """What the times to hold above are compared with."""
    robot.until_state(ExecutorStatus.HOLDING)
    robot.move()
    assert robot.seconds_to_hold(now_ns()) > FULL_S - 0.15
