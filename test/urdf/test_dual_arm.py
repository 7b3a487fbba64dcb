"""The robot description against the table of the PiPER, by independent arithmetic."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import mujoco
import numpy as np
import pytest

from dfm_vla_ros.robot.joints import ARMS, CAMERAS, JOINT_NAMES
from dfm_vla_ros.robot.model import robot_description
from dfm_vla_ros.sim.twin import HOME

# parent origin xyz [m], rpy [rad], lower, upper [rad], velocity [rad/s]
PIPER = (
    ((0, 0, 0.123), (0, 0, 0), -2.618, 2.618, 5),
    ((0, 0, 0), (1.5708, -0.1359, -3.1416), 0, 3.14, 5),
    ((0.28503, 0, 0), (0, 0, -1.7939), -2.967, 0, 5),
    ((-0.021984, -0.25075, 0), (1.5708, 0, 0), -1.745, 1.745, 5),
    ((0, 0, 0), (-1.5708, 0, 0), -1.22, 1.22, 5),
    ((0.0001, -0.091, 0), (1.5708, 0, 0), -2.0944, 2.0944, 3),
)
FINGER_FRAME_M = 0.1358
MASSES_KG = {"base_link": 1.02, "link1": 0.71, "link2": 1.16, "link3": 0.5, "link4": 0.38,
             "link5": 0.383, "gripper_base": 0.45, "finger": 0.025}  # fmt: skip


@pytest.fixture(scope="module")
def urdf() -> ElementTree.Element:
    return ElementTree.fromstring(robot_description())


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return mujoco.MjSpec.from_string(robot_description()).compile()


def rotation(rpy: tuple[float, ...]) -> np.ndarray:
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return z @ y @ x


def link6_pose(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position and rotation of link6 in the arm's base_link, from the table alone."""
    at, turn = np.zeros(3), np.eye(3)
    for (xyz, rpy, *_), joint in zip(PIPER, joints, strict=True):
        at = at + turn @ np.array(xyz)
        turn = turn @ rotation(rpy) @ rotation((0, 0, joint))
    return at, turn


@pytest.mark.parametrize("arm", ARMS)
def test_that_forward_kinematics_is_the_tables(model: mujoco.MjModel, arm: str) -> None:
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    for _ in range(20):
        joints = np.array([rng.uniform(lower, upper) for *_, lower, upper, _ in PIPER])
        for i, joint in enumerate(joints, start=1):
            data.joint(f"{arm}_joint{i}").qpos = joint
        data.joint(f"{arm}_gripper").qpos = 0.02
        mujoco.mj_kinematics(model, data)
        base, link6 = data.body(f"{arm}_base_link"), data.body(f"{arm}_link6")
        at, turn = link6_pose(joints)
        np.testing.assert_allclose(link6.xpos, base.xpos + at, atol=1e-6)
        np.testing.assert_allclose(link6.xmat.reshape(3, 3), turn, atol=1e-6)
        finger = base.xpos + at + turn @ [0, -0.02, FINGER_FRAME_M]
        np.testing.assert_allclose(data.body(f"{arm}_finger").xpos, finger, atol=1e-6)


@pytest.mark.parametrize("arm", ARMS)
def test_that_limits_are_the_tables(urdf: ElementTree.Element, arm: str) -> None:
    for i, (*_, lower, upper, velocity) in enumerate(PIPER, start=1):
        limit = urdf.find(f"joint[@name='{arm}_joint{i}']/limit").attrib
        assert float(limit["lower"]) == lower
        assert float(limit["upper"]) == upper
        assert float(limit["velocity"]) == velocity
        assert float(limit["effort"]) > 0
    finger = urdf.find(f"joint[@name='{arm}_gripper']/limit").attrib
    assert (float(finger["lower"]), float(finger["upper"])) == (0, 0.035)
    assert (float(finger["velocity"]), float(finger["effort"])) == (1, 20)


@pytest.mark.parametrize("arm", ARMS)
def test_that_the_opposed_finger_mimics_in_ros_and_in_mujoco(
    urdf: ElementTree.Element, model: mujoco.MjModel, arm: str
) -> None:
    mimic = urdf.find(f"joint[@name='{arm}_gripper_mimic']/mimic")
    assert mimic.attrib["joint"] == f"{arm}_gripper"
    assert model.neq == len(ARMS)


@pytest.mark.parametrize("arm", ARMS)
def test_that_masses_are_the_tables(model: mujoco.MjModel, arm: str) -> None:
    for link, mass in MASSES_KG.items():
        assert model.body(f"{arm}_{link}").mass[0] == pytest.approx(mass)


def test_that_every_moving_link_has_a_mass_and_a_possible_inertia(model: mujoco.MjModel) -> None:
    for body in {int(model.jnt_bodyid[i]) for i in range(model.njnt)}:
        assert model.body_mass[body] >= 0.025
        small, middle, large = sorted(model.body_inertia[body])
        assert small > 0
        assert small + middle >= large - 1e-12


def test_that_every_frame_of_the_contract_exists(urdf: ElementTree.Element) -> None:
    links = {link.attrib["name"] for link in urdf.iter("link")}
    arm_links = ("base_link", *(f"link{i}" for i in range(1, 7)), "tcp")
    cameras = (f"{camera}_camera" for camera in CAMERAS)
    wanted = {"base_link"} | {f"{arm}_{link}" for arm in ARMS for link in arm_links}
    wanted |= {f"{camera}_{end}" for camera in cameras for end in ("link", "optical_frame")}
    assert wanted <= links


@pytest.mark.parametrize("camera", CAMERAS)
def test_that_an_optical_frame_looks_along_the_cameras_x(
    model: mujoco.MjModel, camera: str
) -> None:
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    link = data.body(f"{camera}_camera_link").xmat.reshape(3, 3)
    optical = data.body(f"{camera}_camera_optical_frame").xmat.reshape(3, 3)
    np.testing.assert_allclose(optical[:, 2], link[:, 0], atol=1e-6)
    np.testing.assert_allclose(optical[:, 1], -link[:, 2], atol=1e-6)


def test_that_the_mock_hardware_commands_all_joints_by_position(
    urdf: ElementTree.Element,
) -> None:
    commanded = []
    for system in urdf.iter("ros2_control"):
        assert system.findtext("hardware/plugin") == "mock_components/GenericSystem"
        for joint in system.iter("joint"):
            states = [state.attrib["name"] for state in joint.iter("state_interface")]
            assert states == ["position", "velocity"]
            commands = [command.attrib["name"] for command in joint.iter("command_interface")]
            commanded += [joint.attrib["name"]] if commands == ["position"] else []
    assert tuple(commanded) == JOINT_NAMES


def test_that_the_mock_hardware_starts_where_the_twin_does(urdf: ElementTree.Element) -> None:
    initial = [
        float(urdf.findtext(f"ros2_control/joint[@name='{name}']/state_interface/param"))
        for name in JOINT_NAMES
    ]
    assert initial == HOME.tolist()


def test_that_shapes_are_primitives_of_our_own(urdf: ElementTree.Element) -> None:
    shapes = {shape.tag for geometry in urdf.iter("geometry") for shape in geometry}
    assert shapes == {"box", "cylinder"}
