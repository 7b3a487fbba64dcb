"""Goals and what ends them, over real DDS: each end is named, a hold is its last message.

A robot played by the test; policy and executor are real. A policy call takes 0.3 s here, so that
there is always one under way. One graph for all tests, in this order.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from dfm_vla_ros.msg import ActionChunk, ExecutorStatus, PolicyStatus, TaskStatus
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState
from probe import Graph
from rclpy.serialization import serialize_message
from robot import Conversation, Result, Robot, identity, seconds
from sensor_msgs.msg import Image
from small import INSTRUCTION
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from dfm_vla_ros.nodes import qos

OTHER = "put the block on the plate"
INFERENCE_S = 0.3


@pytest.fixture(scope="module")
def graph(start_graph: Callable[..., Graph]) -> Graph:
    return start_graph(
        "policy_node", "executor_node", policy_node__minimum_inference_time=INFERENCE_S
    )


@pytest.fixture(scope="module")
def robot(graph: Graph) -> Robot:
    made = Robot(graph)
    graph.until(lambda: status(made).state == PolicyStatus.READY, "a policy that is ready")
    graph.wait_matched(policies=1)
    return made


@pytest.fixture(scope="module")
def talk(graph: Graph, robot: Robot) -> Conversation:
    return Conversation(graph)


def status(robot: Robot) -> PolicyStatus:
    return robot.policy_statuses[-1] if robot.policy_statuses else PolicyStatus()


# Joining


def test_that_committed_steps_repeat_the_running_chunk(talk: Conversation, robot: Robot) -> None:
    handle = talk.send()
    talk.wait_chunks(4)
    talk.cancel(handle)
    chunks = {c.chunk_id: c for c in talk.made() if c.goal_id == identity(handle)}
    assert all(chunk.mode == ActionChunk.RTC for chunk in chunks.values())
    assert all(chunk.execute_steps == 0 for chunk in chunks.values())
    assert chunks[3].expected_interval > INFERENCE_S
    compared = 0
    for chunk in chunks.values():
        before = followed(robot, chunk)
        if not chunk.committed_steps or before is None:
            continue
        assert chunk.committed_steps >= 3, "0.3 s of inference at 0.1 s a step"
        phase = (seconds(chunk.observation_stamp) - seconds(before.step_zero)) / before.step_period
        old = positions(talk.graph, chunks[before.chunk_id])[: before.last_step + 1]
        ahead = np.array([at(old, phase + step) for step in range(1, chunk.horizon + 1)])
        expected = talk.graph.tokenizer.encode(ahead, np.array(chunk.reference_positions))
        committed = slice(chunk.committed_steps)
        # Stamps are whole nanoseconds: a target at the edge of a bin may fall on either side.
        assert np.abs(tokens(chunk)[committed] - expected[committed]).max() <= 1
        compared += chunk.committed_steps
    assert compared >= 6


def followed(robot: Robot, chunk: ActionChunk) -> ExecutorStatus | None:
    """Return the newest status before the chunk's observation, if a chunk was followed."""
    seen_s = seconds(chunk.observation_stamp)
    known = [s for s in robot.statuses if seconds(s.header.stamp) < seen_s]
    return known[-1] if known and known[-1].step_period else None


def positions(graph: Graph, chunk: ActionChunk) -> np.ndarray:
    """Return the reference and the targets (1 + H, D) of a chunk."""
    reference = np.array(chunk.reference_positions)
    return np.vstack([reference, graph.tokenizer.decode(tokens(chunk), reference)])


def tokens(chunk: ActionChunk) -> np.ndarray:
    return np.array(chunk.tokens, dtype=np.int64).reshape(chunk.horizon, -1)


def at(points: np.ndarray, step: float) -> np.ndarray:
    return np.array([np.interp(step, range(len(points)), column) for column in points.T])


# Cancelling


def right_after_acceptance(talk: Conversation, robot: Robot) -> None:
    pass


def while_the_first_chunk_is_made(talk: Conversation, robot: Robot) -> None:
    talk.spin(INFERENCE_S / 2)


def while_a_chunk_runs(talk: Conversation, robot: Robot) -> None:
    talk.wait_chunks(1)


def while_a_camera_is_missing(talk: Conversation, robot: Robot) -> None:
    talk.wait_chunks(1)
    robot.silent.add("third")
    talk.graph.until(lambda: status(robot).state == PolicyStatus.WAITING, "a goal that waits")


@pytest.mark.parametrize(
    "when",
    [
        right_after_acceptance,
        while_the_first_chunk_is_made,
        while_a_chunk_runs,
        while_a_camera_is_missing,
    ],
)
def test_that_a_goal_is_cancelled_in_every_state_and_a_hold_is_its_last_word(
    talk: Conversation, robot: Robot, when: Callable[[Conversation, Robot], None]
) -> None:
    handle = talk.send()
    when(talk, robot)
    twice = [handle.cancel_goal_async(), handle.cancel_goal_async()]
    code, result = talk.end(handle)
    assert (code, result.error_code) == (GoalStatus.STATUS_CANCELED, Result.CANCELED)
    talk.graph.until(lambda: all(answer.done() for answer in twice), "answers to both cancels")
    robot.heal()
    assert talk.last_word(handle).hold


def test_that_a_chunk_begun_before_a_fault_is_dropped(talk: Conversation, robot: Robot) -> None:
    def tear(image: Image) -> None:
        torn_s.append(seconds(image.header.stamp))
        del image.data[-1:]

    torn_s: list[float] = []
    before = len(talk.made())
    handle = talk.send()
    talk.spin(INFERENCE_S / 2)
    assert len(talk.made()) == before, "the first chunk is under way"
    robot.change["third"] = tear
    talk.wait_hold(handle)
    robot.heal()
    talk.wait_chunks(1)
    assert seconds(talk.made()[-1].observation_stamp) > torn_s[-1]
    talk.cancel(handle)


def test_that_of_goals_at_once_the_last_one_wins(talk: Conversation) -> None:
    sent = [talk.ask() for _ in range(5)]
    talk.graph.until(lambda: all(future.done() for future in sent), "answers to all goals")
    *earlier, last = [future.result() for future in sent]
    for handle in earlier:
        code, result = talk.end(handle)
        assert (code, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.PREEMPTED)
    talk.wait_chunks(1)
    assert talk.made()[-1].goal_id == identity(last)
    talk.cancel(last)


def test_that_a_goal_ends_with_the_tasks_success_and_a_hold(
    talk: Conversation, robot: Robot
) -> None:
    topic = talk.graph.node.create_publisher(TaskStatus, "task_status", qos.STATUS)
    handle = talk.send()
    talk.wait_chunks(1)
    done = TaskStatus(task="place_block", success=True, progress=1.0, elapsed=1.0)
    done.header.stamp = talk.graph.node.get_clock().now().to_msg()
    topic.publish(done)
    code, result = talk.end(handle)
    assert (code, result.error_code) == (GoalStatus.STATUS_SUCCEEDED, Result.NONE)
    assert talk.last_word(handle).hold
    talk.graph.node.destroy_publisher(topic)


def test_that_a_goal_ends_in_time_with_a_hold(talk: Conversation) -> None:
    handle = talk.send(timeout_s=0.8)
    assert talk.end(handle)[1].error_code == Result.TIMEOUT
    assert talk.last_word(handle).hold


# Sentences


@pytest.fixture(scope="module")
def instruct(graph: Graph, talk: Conversation) -> Callable[[str | bytes], None]:
    """Publish on the topic instruction."""
    topic = graph.node.create_publisher(String, "instruction", qos.COMMAND)
    graph.until(lambda: topic.get_subscription_count() >= 1, "a subscriber of instruction")

    def publish(sentence: str | bytes) -> None:
        topic.publish(String(data=sentence) if isinstance(sentence, str) else sentence)

    return publish


def test_that_the_topic_starts_a_goal_and_changes_it_in_mid_run(
    talk: Conversation, robot: Robot, instruct: Callable
) -> None:
    instruct(INSTRUCTION)
    talk.wait_chunks(2)
    goal_id = talk.made()[-1].goal_id
    assert status(robot).goal_id == goal_id
    assert talk.made()[-1].instruction == INSTRUCTION
    instruct(OTHER)
    talk.graph.until(lambda: status(robot).instruction == OTHER, "a status that says so")
    talk.graph.until(lambda: talk.made()[-1].instruction == OTHER, "a chunk that says so")
    assert talk.made()[-1].goal_id == goal_id


INVALID = serialize_message(String(data="place the block")).replace(b"block", b"bl\xff\xfek")
BAD = [
    ("", "0 bytes long"),
    ("x " * 500_000, "1000000 bytes long"),
    ("qwertz asdf", "no word"),
    (INVALID, "no valid UTF-8"),
]


@pytest.mark.parametrize(("sentence", "why"), BAD, ids=["empty", "1 MB", "unknown", "UTF-8"])
def test_that_a_bad_sentence_is_refused_and_the_running_goal_goes_on(
    talk: Conversation, robot: Robot, instruct: Callable, sentence: str | bytes, why: str
) -> None:
    log = talk.graph.children.members["policy_node"].log
    running = status(robot).goal_id
    assert running, "the goal of the test before"
    instruct(sentence)
    wanted = f"topic instruction refused: the instruction is {why}"
    if why == "no word":
        wanted = "topic instruction refused: no word"
    talk.graph.until(lambda: wanted in log.read_text(errors="replace"), "a refusal in the log")
    talk.wait_chunks(1)
    assert talk.made()[-1].instruction == OTHER
    assert status(robot).goal_id == running


@pytest.mark.parametrize(("sentence", "why"), [BAD[1], ("place \ufffd block", "no valid UTF-8")])
def test_that_a_goal_with_a_bad_sentence_is_refused_and_the_running_one_goes_on(
    talk: Conversation, robot: Robot, sentence: str, why: str
) -> None:
    running = status(robot).goal_id
    _, result = talk.end(talk.send(sentence))
    assert result.error_code == Result.BAD_INSTRUCTION
    assert why in result.error_msg
    talk.wait_chunks(1)
    assert talk.made()[-1].goal_id == running


def test_that_a_goal_takes_over_from_one_of_the_topic(talk: Conversation) -> None:
    handle = talk.send()
    talk.wait_chunks(1)
    assert talk.made()[-1].goal_id == identity(handle)
    talk.cancel(handle)


# The executor


def call(graph: Graph, kind: type, name: str, request: Any) -> Any:
    client = graph.node.create_client(kind, name)
    graph.until(client.service_is_ready, name)
    answer = client.call_async(request)
    graph.until(answer.done, f"answer of {name}")
    return answer.result()


def change_state(graph: Graph, node: str, label: str) -> bool:
    request = ChangeState.Request()
    request.transition.label = label
    return call(graph, ChangeState, f"{node}/change_state", request).success


def test_that_a_stop_ends_the_goal_and_refuses_the_next_until_resume(
    talk: Conversation, robot: Robot
) -> None:
    handle = talk.send()
    talk.wait_chunks(1)
    assert call(talk.graph, Trigger, "executor_node/stop", Trigger.Request()).success
    began_s = time.monotonic()
    code, result = talk.end(handle)
    print(f"stop: goal ended {(time.monotonic() - began_s) * 1e3:.0f} ms after the answer")
    assert (code, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.EXECUTOR_STOPPED)
    assert "executor_node/resume" in result.error_msg
    _, refused = talk.end(talk.send())
    assert refused.error_code == Result.EXECUTOR_STOPPED
    assert refused.chunks == 0
    call(talk.graph, Trigger, "executor_node/resume", Trigger.Request())
    talk.graph.until(lambda: robot.statuses[-1].state != ExecutorStatus.STOPPED, "resumed arms")
    talk.spin(0.1)
    assert talk.last_word(handle).hold


def test_that_an_executor_that_is_inactive_is_lost(talk: Conversation) -> None:
    handle = talk.send()
    talk.wait_chunks(1)
    assert change_state(talk.graph, "executor_node", "deactivate")
    _, result = talk.end(handle)
    assert result.error_code == Result.EXECUTOR_LOST
    assert "the executor is inactive for 2.5" in result.error_msg
    assert change_state(talk.graph, "executor_node", "activate")
    assert talk.last_word(handle).hold


@pytest.mark.parametrize("restarted", [False, True])
def test_that_an_executor_that_is_killed_is_lost_and_a_new_one_serves_the_next_goal(
    talk: Conversation, robot: Robot, restarted: bool
) -> None:
    graph = talk.graph
    handle = talk.send()
    talk.wait_chunks(1)
    graph.children.members["executor_node"].signal(signal.SIGKILL)
    if restarted:
        graph.children.start_node("executor_node", {"checkpoint": graph.checkpoint})
    _, result = talk.end(handle)
    assert result.error_code == Result.EXECUTOR_LOST
    assert talk.wait_hold(handle).chunk_id == result.chunks
    if not restarted:
        graph.children.start_node("executor_node", {"checkpoint": graph.checkpoint})
    robot.statuses.clear()
    graph.until(
        lambda: robot.statuses and robot.statuses[-1].state == ExecutorStatus.HOLDING,
        "a new executor",
    )
    assert talk.last_word(handle).hold


def test_that_somebody_else_who_commands_an_arm_ends_the_goal(
    talk: Conversation, robot: Robot
) -> None:
    handle = talk.send()
    talk.wait_chunks(1)
    topic = "left_arm_controller/joint_trajectory"
    rival = talk.graph.node.create_publisher(JointTrajectory, topic, qos.COMMAND)
    _, result = talk.end(handle)
    assert result.error_code == Result.EXECUTOR_STOPPED
    assert topic in result.error_msg
    talk.graph.node.destroy_publisher(rival)
    talk.spin(0.5)
    assert talk.last_word(handle).hold


# Lifecycle


def test_that_the_policy_is_deactivated_with_a_hold_and_activated_again(
    talk: Conversation, robot: Robot
) -> None:
    handle = talk.send()
    talk.wait_chunks(1)
    assert change_state(talk.graph, "policy_node", "deactivate")
    code, result = talk.end(handle)
    assert (code, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.CANCELED)
    assert result.error_msg == "the node was deactivated"
    _, refused = talk.end(talk.send())
    assert refused.error_code == Result.NOT_READY
    assert "activate" in refused.error_msg
    assert status(robot).state == PolicyStatus.INACTIVE
    assert change_state(talk.graph, "policy_node", "activate")
    assert talk.last_word(handle).hold


def test_that_an_impossible_transition_is_refused_and_the_node_lives(talk: Conversation) -> None:
    assert not change_state(talk.graph, "policy_node", "configure")
    assert not change_state(talk.graph, "policy_node", "no such thing")
    talk.cancel(talk.send())


def test_that_a_policy_that_was_cleaned_up_is_configured_again(
    talk: Conversation, robot: Robot
) -> None:
    loaded = status(robot).checkpoint_hash
    for label in ("deactivate", "cleanup"):
        assert change_state(talk.graph, "policy_node", label)
    talk.graph.until(lambda: status(robot).checkpoint_hash == "", "a policy without checkpoint")
    assert talk.end(talk.send())[1].error_code == Result.NOT_READY
    for label in ("configure", "activate"):
        assert change_state(talk.graph, "policy_node", label)
    handle = talk.send()
    talk.wait_chunks(2)
    assert status(robot).checkpoint_hash == loaded
    talk.cancel(handle)


def test_that_diagnostics_tell_of_every_source_of_inference_goal_and_checkpoint(
    talk: Conversation, robot: Robot
) -> None:
    arrays: list[DiagnosticArray] = []
    talk.graph.node.create_subscription(DiagnosticArray, "/diagnostics", arrays.append, 50)
    handle = talk.send()
    robot.silent.add("left_wrist")

    def newest() -> dict[str, Any]:
        own = [a.status for a in arrays if a.status[0].name.startswith("policy_node: ")]
        return {s.name.partition(": ")[2]: s for s in own[-1]} if own else {}

    def is_told() -> bool:
        found = newest()
        parts = [found[part].message for part in ("left_wrist_camera", "goal") if part in found]
        return len(parts) == 2 and all("left_wrist_camera" in text for text in parts)

    talk.graph.until(is_told, "a word about the wrist camera")
    talk.cancel(handle)
    robot.heal()
    found = newest()
    assert found["left_wrist_camera"].level == b"\x02"
    assert found["third_camera"].message == "ok"
    values = {v.key: float(v.value) for v in found["third_camera"].values}
    assert values["rate [Hz]"] == pytest.approx(20.0, rel=0.3)
    assert values["age [s]"] < 0.5
    calls = {v.key: float(v.value) for v in found["inference"].values}
    assert calls["median [s]"] == pytest.approx(INFERENCE_S, abs=0.1)
    assert calls["95th percentile [s]"] >= calls["median [s]"]
    assert {"chunks", "dropped", "failed"} <= set(calls)
    assert found["checkpoint"].values[0].value == status(robot).checkpoint_hash
    assert {"joint_states", "commanded_joint_states", "right_wrist_camera"} <= set(found)


# The end


def test_that_goals_of_the_last_moment_are_concluded(talk: Conversation) -> None:
    graph = talk.graph
    child = graph.children.members["policy_node"]
    handle = talk.send()
    talk.wait_chunks(1)
    ended = [handle.get_result_async()]
    child.signal(signal.SIGINT)
    sent = []
    while child.process.poll() is None:
        sent.append(talk.ask())
        talk.spin(0.02)
        taken = [f.result() for f in sent if f.done() and f.result().accepted]
        ended += [handle.get_result_async() for handle in taken[len(ended) - 1 :]]
    talk.spin(0.3)
    assert child.process.returncode == 0
    assert len(ended) > 1, "some goals came in time"
    assert all(future.done() for future in ended)
    codes = [future.result().result.error_code for future in ended]
    running = codes.index(Result.CANCELED)
    refused = len(codes) - running - 1
    # The signal may come to the node after the first of the new goals.
    assert codes == [Result.PREEMPTED] * running + [Result.CANCELED] + [Result.NOT_READY] * refused
    assert graph.chunks[-1].hold
