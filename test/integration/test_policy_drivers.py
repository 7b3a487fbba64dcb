"""Compressed cameras and arm drivers instead of one joint state; a policy that fails in between.

A robot played by the test; the policy node is real, but runs out of memory for one word.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from action_msgs.msg import GoalStatus
from dfm_vla_ros.msg import PolicyStatus
from failing_policy import WORD
from probe import Graph
from robot import DRIVER_NAMES, Conversation, Result, Robot, identity
from sensor_msgs.msg import CompressedImage
from small import INSTRUCTION


@pytest.fixture(scope="module")
def graph(start_graph: Callable[..., Graph], checkpoint: Path) -> Iterator[Graph]:
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), before])
    drivers = {"arm_joint_states": True, "arm_joint_names": DRIVER_NAMES, "gripper_scale": 1.0}
    made = start_graph(
        "executor_node", **{f"executor_node__{key}": value for key, value in drivers.items()}
    )
    names = "[" + ",".join(DRIVER_NAMES) + "]"
    given = {
        "checkpoint": checkpoint,
        "image_transport": "compressed",
        "arm_joint_states": "true",
        "arm_joint_names": names,
        "mode": "synchronous",
        "execute_steps": 3,
    }
    words = [word for key, value in given.items() for word in ("-p", f"{key}:={value}")]
    made.children.start("policy_node", "failing_policy", "--ros-args", *words)
    yield made
    os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="module")
def robot(graph: Graph) -> Robot:
    made = Robot(graph, compressed="jpeg", drivers=True)
    graph.until(lambda: status(made).state == PolicyStatus.READY, "a policy that is ready")
    graph.wait_matched(policies=1)
    return made


@pytest.fixture(scope="module")
def talk(graph: Graph, robot: Robot) -> Conversation:
    return Conversation(graph)


def status(robot: Robot) -> PolicyStatus:
    return robot.policy_statuses[-1] if robot.policy_statuses else PolicyStatus()


def test_that_synchronous_chunks_of_compressed_views_end_at_rest(
    talk: Conversation, robot: Robot
) -> None:
    handle = talk.send()
    talk.wait_chunks(3)
    talk.cancel(handle)
    for chunk in talk.made():
        assert (chunk.mode, chunk.execute_steps) == (chunk.SYNCHRONOUS, 3)
        assert chunk.committed_steps == 0


def test_that_memory_that_runs_out_ends_the_goal_by_name_and_the_next_one_runs(
    talk: Conversation,
) -> None:
    first = talk.send()
    talk.wait_chunks(1)
    failing = talk.send(f"{INSTRUCTION} {WORD}")
    code, result = talk.end(failing)
    assert (code, result.error_code) == (GoalStatus.STATUS_ABORTED, Result.INFERENCE_FAILED)
    assert "OutOfMemoryError: CUDA out of memory" in result.error_msg
    assert talk.end(first)[1].error_code == Result.PREEMPTED
    assert talk.last_word(failing).hold
    handle = talk.send()
    talk.wait_chunks(1)
    talk.cancel(handle)


def test_that_a_torn_jpeg_is_refused_by_name_and_held(talk: Conversation, robot: Robot) -> None:
    def tear(image: CompressedImage) -> None:
        del image.data[-100:]

    handle = talk.send()
    talk.wait_chunks(1)
    robot.change["third"] = tear
    talk.wait_hold(handle)
    talk.graph.until(
        lambda: (
            "third_camera/image_raw/compressed: " in status(robot).message
            and "torn or corrupt jpeg" in status(robot).message
        ),
        "a refusal in the status",
    )
    robot.heal()
    talk.wait_chunks(1)
    assert talk.made()[-1].goal_id == identity(handle)
    talk.cancel(handle)


def test_that_a_silent_arm_driver_is_named(talk: Conversation, robot: Robot) -> None:
    handle = talk.send()
    talk.wait_chunks(1)
    robot.silent.add("right_arm/joint_states")
    talk.wait_hold(handle)
    expected = "left_arm/joint_states and right_arm/joint_states is 0."
    talk.graph.until(lambda: expected in status(robot).message, "the name in the status")
    robot.heal()
    talk.cancel(handle)
