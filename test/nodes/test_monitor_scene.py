"""What the monitor says, from messages alone."""

from __future__ import annotations

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from dfm_vla_ros.msg import ActionChunk, ExecutorStatus, PolicyStatus, PolicyTrace, TaskStatus

from dfm_vla_ros.nodes.monitor_node import transforms
from dfm_vla_ros.nodes.monitor_scene import MonitorScene
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.model import RobotModel
from dfm_vla_ros.tokens import ActionCodec, load_action_tokenizer

REFERENCE = [0.2, 1.0, -1.0, 0.1, 0.5, 0.0, 0.02] * 2


@pytest.fixture(scope="module")
def kinematics() -> RobotModel:
    return RobotModel()


@pytest.fixture(scope="module")
def tokenizer() -> ActionCodec:
    return load_action_tokenizer(resource_path("checkpoints/default"))


@pytest.fixture
def scene(tokenizer: ActionCodec, kinematics: RobotModel) -> MonitorScene:
    return MonitorScene(tokenizer, kinematics, trail_s=1.0)


def chunk(tokenizer: ActionCodec, **changes: object) -> ActionChunk:
    message = ActionChunk(
        goal_id="g",
        chunk_id=1,
        tokenizer_hash=tokenizer.hash,
        joint_names=list(JOINT_NAMES),
        reference_positions=REFERENCE,
        horizon=8,
        tokens=[130] * 112,
        committed_steps=2,
        inference_time=0.075,
    )
    for field, value in changes.items():
        setattr(message, field, value)
    return message


def trace(tokenizer: ActionCodec, rows: int = 3) -> PolicyTrace:
    return PolicyTrace(
        goal_id="g",
        chunk_id=1,
        tokenizer_hash=tokenizer.hash,
        joint_names=list(JOINT_NAMES),
        reference_positions=REFERENCE,
        times=[0.0, 0.5, 0.9][:rows],
        tokens=[120] * 112 * (rows - 1) + [130] * 112,
        confidence=[0.2] * 112 * rows,
        committed_steps=2,
    )


def test_that_a_chunk_alone_is_a_plan_without_confidence(
    scene: MonitorScene, tokenizer: ActionCodec
) -> None:
    scene.take_chunk(chunk(tokenizer))
    assert scene.plan.path.shape == (9, 2, 3)
    assert np.isnan(scene.plan.confidence).all()
    assert scene.plan.committed_steps == 2


def test_that_a_trace_says_more_of_the_same_chunk_before_it_or_after(
    scene: MonitorScene, tokenizer: ActionCodec
) -> None:
    scene.take_trace(trace(tokenizer))
    scene.take_chunk(chunk(tokenizer))
    assert scene.plan.fan.shape == (3, 9, 2, 3)
    np.testing.assert_allclose(scene.plan.confidence, 0.2, atol=1e-6)
    scene.take_chunk(chunk(tokenizer, chunk_id=2))
    assert np.isnan(scene.plan.confidence).all()


def test_that_a_trace_that_comes_after_the_hold_is_not_shown_and_the_next_one_is(
    scene: MonitorScene, tokenizer: ActionCodec
) -> None:
    scene.take_chunk(chunk(tokenizer))
    scene.take_chunk(ActionChunk(goal_id="g", chunk_id=1, hold=True))
    late = trace(tokenizer)
    scene.take_trace(late)
    assert scene.plan is None
    late.chunk_id = 2  # the goal went on after a pause
    scene.take_trace(late)
    assert scene.plan is not None


def test_that_a_hold_ends_the_plan_once(scene: MonitorScene, tokenizer: ActionCodec) -> None:
    scene.take_chunk(chunk(tokenizer))
    scene.plan_is_new = False
    scene.take_chunk(ActionChunk(hold=True))
    assert scene.plan is None
    assert scene.plan_is_new


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer_hash": "0" * 64}, "give the monitor the policy's checkpoint"),
        ({"joint_names": ["a", "b"]}, "of other joints: a, b"),
        ({"reference_positions": [0.0]}, "1 reference positions"),
        ({"tokens": [1, 2, 3]}, "cannot be drawn"),
    ],
)
def test_that_a_chunk_that_cannot_be_drawn_is_said_in_red(
    scene: MonitorScene, tokenizer: ActionCodec, changes: dict, message: str
) -> None:
    scene.take_chunk(chunk(tokenizer, **changes))
    assert scene.plan is None
    text, trouble = scene.lines()[-1]
    assert message in text
    assert trouble


def test_that_a_torn_trace_is_said_and_the_next_one_is_drawn(
    scene: MonitorScene, tokenizer: ActionCodec
) -> None:
    torn = trace(tokenizer)
    torn.tokens = torn.tokens[:-5]
    scene.take_trace(torn)
    assert "does not hold as many rows" in scene.problem
    scene.take_trace(trace(tokenizer))
    assert scene.plan is not None
    assert not scene.problem


def test_that_lines_name_instruction_progress_latency_stop_and_refusal(
    scene: MonitorScene, tokenizer: ActionCodec
) -> None:
    assert [trouble for _, trouble in scene.lines()][2:4] == [True, True]
    scene.take_chunk(chunk(tokenizer))
    scene.take_policy(PolicyStatus(state=PolicyStatus.RUNNING, instruction="go", chunks=3))
    scene.take_task(TaskStatus(task="place_block", progress=0.5, elapsed=2.0))
    scene.take_executor(
        ExecutorStatus(
            state=ExecutorStatus.STOPPED, stop_reason="operator", message="left_joint2", speed=1.0
        )
    )
    goal, task, policy, executor, _ = (text for text, _ in scene.lines())
    assert goal == '"go"'
    assert "50%" in task
    assert "75 ms" in policy
    assert "stopped: operator; left_joint2" in executor
    assert scene.lines()[3][1]


def test_that_the_trail_is_as_long_as_asked_and_ends_with_a_reset(
    scene: MonitorScene, kinematics: RobotModel
) -> None:
    joints = np.array(REFERENCE)
    for number in range(200):
        scene.take_joints(joints, number * 0.01)
    assert 19 <= len(scene.trail) <= 21
    np.testing.assert_allclose(scene.trail[-1], kinematics.points(joints))
    scene.take_task(TaskStatus(task="place_block", seed=1, elapsed=3.0))
    scene.take_task(TaskStatus(task="place_block", seed=2, elapsed=0.0))
    assert scene.trail.shape == (0, 2, 3)


def test_that_a_clock_that_goes_back_begins_the_trail_anew(scene: MonitorScene) -> None:
    scene.take_joints(np.array(REFERENCE), 10.0)
    scene.take_joints(np.array(REFERENCE), 2.0)
    assert len(scene.trail) == 1


def test_that_transforms_chained_from_the_root_are_the_poses(kinematics: RobotModel) -> None:
    from scipy.spatial.transform import Rotation

    joints = np.array(REFERENCE)
    made = transforms(kinematics, list(kinematics.links[1:]), joints, Time(sec=1))
    poses = {kinematics.root: np.eye(4)}
    for message in made:
        at, turn = message.transform.translation, message.transform.rotation
        step = np.eye(4)
        step[:3, :3] = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w]).as_matrix()
        step[:3, 3] = [at.x, at.y, at.z]
        poses[message.child_frame_id] = poses[message.header.frame_id] @ step
    for link, expected in kinematics.poses(joints).items():
        np.testing.assert_allclose(poses[link], expected, atol=1e-9)
