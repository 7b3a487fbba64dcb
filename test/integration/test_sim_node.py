"""The twin behind the topics of a robot."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from dfm_vla_ros.msg import TaskStatus
from probe import HOME, Graph
from sensor_msgs.msg import CameraInfo, Image
from trajectory_msgs.msg import JointTrajectory

from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import from_nanoseconds, nanoseconds
from dfm_vla_ros.nodes.messages import to_message
from dfm_vla_ros.observing.cameras import to_rgb
from dfm_vla_ros.robot.joints import ARM_JOINTS, CAMERAS, JOINT_NAMES
from dfm_vla_ros.robot.progress import Trajectory


@pytest.fixture(scope="module")
def graph(start_graph: Callable[..., Graph]) -> Graph:
    made = start_graph("sim_node", sim_node__black_cameras=["left_wrist"])
    made.images = {camera: [] for camera in CAMERAS}
    made.infos = []
    for camera, kept in made.images.items():
        made.node.create_subscription(Image, f"{camera}_camera/image_raw", kept.append, 50)
    made.node.create_subscription(
        CameraInfo, "third_camera/camera_info", made.infos.append, qos.SENSOR
    )
    made.left = made.node.create_publisher(
        JointTrajectory, "left_arm_controller/joint_trajectory", qos.COMMAND
    )
    made.until(lambda: made.measured and all(made.images.values()), "joint states and images")
    return made


def fresh_images(graph: Graph, task: str, seed: int) -> Mapping[str, np.ndarray]:
    """Return the first images after a reset."""
    graph.client.reset(task, seed)
    since = nanoseconds(graph.measured[-1].header.stamp)
    for kept in graph.images.values():
        kept.clear()
    graph.until(
        lambda: all(
            kept and nanoseconds(kept[-1].header.stamp) > since for kept in graph.images.values()
        ),
        "images after the reset",
    )
    return {camera: to_rgb(kept[-1]) for camera, kept in graph.images.items()}


def test_that_the_same_seed_gives_the_same_scene_and_another_seed_another(graph: Graph) -> None:
    first = fresh_images(graph, "place_block", 7)
    other = fresh_images(graph, "place_block", 8)
    again = fresh_images(graph, "place_block", 7)

    def differ(a: np.ndarray, b: np.ndarray) -> int:
        return int((np.abs(a.astype(int) - b).max(axis=2) > 20).sum())

    assert differ(first["third"], again["third"]) <= 2
    assert differ(first["third"], other["third"]) > 20


def test_that_a_black_camera_is_black_and_the_others_are_not(graph: Graph) -> None:
    graph.until(lambda: all(graph.images.values()), "images")
    means = {camera: to_rgb(kept[-1]).mean() for camera, kept in graph.images.items()}
    assert means["left_wrist"] == 0.0
    assert min(means["third"], means["right_wrist"]) > 10


def test_that_images_and_intrinsics_agree(graph: Graph) -> None:
    graph.until(lambda: graph.infos and graph.images["third"], "camera info")
    image, info = graph.images["third"][-1], graph.infos[-1]
    assert image.header.frame_id == info.header.frame_id == "third_camera_optical_frame"
    assert (image.width, image.height, image.encoding) == (info.width, info.height, "rgb8")


def test_that_joint_states_name_all_joints_and_the_mimics(graph: Graph) -> None:
    names = ["left_gripper_mimic", "right_gripper_mimic"]
    assert list(graph.measured[-1].name) == [*JOINT_NAMES, *names]
    np.testing.assert_allclose(graph.measured[-1].position[:14], HOME, atol=0.02)


def test_that_an_unknown_task_is_refused_with_a_reason(graph: Graph) -> None:
    with pytest.raises(Exception, match="fold_towel"):
        graph.client.reset("fold_towel", 1)


def move(graph: Graph, velocity_at_end: float, joint1: float) -> None:
    """Send the left arm to ``joint1`` [rad] in 0.3 s."""
    target = HOME[:7].copy()
    target[0] = joint1
    speed = np.zeros((1, 7))
    speed[0, 0] = velocity_at_end
    wanted = Trajectory(ARM_JOINTS["left"], np.array([0.3]), target[None], speed)
    graph.left.publish(to_message(wanted, from_nanoseconds(0)))


def joint1(graph: Graph) -> float:
    return graph.measured[-1].position[0]


def test_that_a_trajectory_moves_the_arm_which_then_holds(graph: Graph) -> None:
    graph.client.reset("place_block", 7)
    graph.until(lambda: graph.left.get_subscription_count() > 0, "the arm's controller")
    move(graph, velocity_at_end=0.5, joint1=-0.2)  # refused: it would still move at its end
    seen = len(graph.measured)
    graph.until(lambda: len(graph.measured) > seen + 50, "half a second of joint states")
    assert max(abs(message.position[0]) for message in graph.measured[seen:]) < 0.005
    move(graph, velocity_at_end=0.0, joint1=0.2)
    graph.until(lambda: abs(joint1(graph) - 0.2) < 0.005, "the arm at its target")
    seen = len(graph.measured)
    graph.until(lambda: len(graph.measured) > seen + 30, "more joint states")
    held = [message.position[0] for message in graph.measured[-30:]]
    assert min(held) > 0.19 and max(held) < 0.21


def test_that_a_reset_brings_the_arm_home(graph: Graph) -> None:
    move(graph, velocity_at_end=0.0, joint1=0.2)
    graph.until(lambda: abs(joint1(graph) - 0.2) < 0.005, "the arm at its target")
    graph.client.reset("place_block", 7)
    graph.until(lambda: abs(joint1(graph)) < 1e-3, "the arm at home", timeout_s=0.5)


def test_that_what_was_meant_for_the_episode_before_moves_nothing(graph: Graph) -> None:
    graph.client.reset("place_block", 7)
    for first, until_reached in ((0.5, False), (0.01, True)):
        points = np.stack([HOME[:7], HOME[:7]])
        points[:, 0] = first, first + 0.1
        times, rest = np.array([0.02, 0.3]), np.zeros((2, 7))
        wanted = Trajectory(ARM_JOINTS["left"], times, points, rest)
        graph.left.publish(to_message(wanted, graph.node.get_clock().now().to_msg()))
        seen = len(graph.measured)
        if until_reached:
            graph.until(lambda: abs(joint1(graph) - 0.11) < 0.005, "the arm at its target")
        else:
            graph.until(lambda n=seen: len(graph.measured) > n + 30, "joint states")
            assert abs(joint1(graph)) < 5e-3


def test_that_a_reset_is_stamped_later_than_every_joint_state_before_it(graph: Graph) -> None:
    resets: list[int] = []

    def note(status: TaskStatus) -> None:
        if status.elapsed == 0.0:
            resets.append(nanoseconds(status.header.stamp))

    graph.node.create_subscription(TaskStatus, "task_status", note, qos.STATUS)
    graph.measured.clear()
    for seed in range(20, 30):
        graph.client.reset("place_block", seed)
    graph.until(lambda: len(graph.measured) > 20, "joint states")
    stamps = [nanoseconds(message.header.stamp) for message in graph.measured]
    assert len(resets) >= 5
    # One joint state is published at each reset, with its very stamp; none before shares it.
    assert all(stamps.count(reset) <= 1 for reset in resets)
    assert len(set(stamps)) == len(stamps)
