"""The files of ros2_control agree with the robot and with what its controllers understand.

controller_manager is no wheel, so its files are read here and run only where it is installed.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
import yaml

from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import ARM_JOINTS, ARMS, JOINT_NAMES
from dfm_vla_ros.robot.model import robot_description

# As in joint_trajectory_controller_parameters.yaml and joint_state_broadcaster_parameters.yaml of
# ros2_controllers, branch jazzy.
TRAJECTORY_CONTROLLER = {
    "action_monitor_rate",
    "allow_integration_in_goal_trajectories",
    "allow_nonzero_velocity_at_trajectory_end",
    "allow_partial_joints_goal",
    "cmd_timeout",
    "command_interfaces",
    "command_joints",
    "constraints",
    "gains",
    "interpolate_from_desired_state",
    "interpolation_method",
    "joints",
    "set_last_command_interface_value_as_state_on_activation",
    "speed_scaling",
    "state_interfaces",
}
BROADCASTER = {
    "extra_joints",
    "frame_id",
    "interfaces",
    "joints",
    "map_interface_to_joint_state",
    "publish_dynamic_joint_states",
    "use_local_topics",
    "use_urdf_to_filter",
}
TRAJECTORY_CONTROLLERS = [*(f"{arm}_arm_controller" for arm in ARMS), "both_arms_controller"]
HOME = np.array([0.0, 1.455, -0.729, 0.0, 0.931, 0.0, 0.035])


@pytest.fixture(scope="module")
def controllers() -> dict:
    text = resource_path("config/ros2_controllers.yaml").read_text(encoding="utf-8")
    return {
        key.removeprefix("/**/"): value["ros__parameters"]
        for key, value in yaml.safe_load(text).items()
    }


@pytest.fixture(scope="module")
def robot() -> ET.Element:
    return ET.fromstring(robot_description())


def test_that_every_controller_is_one_that_the_manager_loads(controllers: dict) -> None:
    manager = controllers["controller_manager"]
    kinds = {name: value["type"] for name, value in manager.items() if isinstance(value, dict)}
    assert set(kinds) == set(controllers) - {"controller_manager"}
    assert kinds.pop("joint_state_broadcaster") == "joint_state_broadcaster/JointStateBroadcaster"
    assert set(kinds) == set(TRAJECTORY_CONTROLLERS)
    assert set(kinds.values()) == {"joint_trajectory_controller/JointTrajectoryController"}


def test_that_no_parameter_is_one_that_its_controller_does_not_know(controllers: dict) -> None:
    assert set(controllers["joint_state_broadcaster"]) <= BROADCASTER
    for name in TRAJECTORY_CONTROLLERS:
        assert set(controllers[name]) <= TRAJECTORY_CONTROLLER


def test_that_limits_are_enforced_and_chunks_join_at_the_commanded_state(
    controllers: dict,
) -> None:
    assert controllers["controller_manager"]["enforce_command_limits"] is True
    for name in TRAJECTORY_CONTROLLERS:
        given = controllers[name]
        assert given["interpolate_from_desired_state"] is True
        assert given["interpolation_method"] == "splines"
        assert given["allow_nonzero_velocity_at_trajectory_end"] is False
        assert given["allow_partial_joints_goal"] is False
        assert given["command_interfaces"] == ["position"]
        assert given["state_interfaces"] == ["position", "velocity"]


def test_that_the_controllers_joints_are_those_of_the_executor(controllers: dict) -> None:
    for arm in ARMS:
        assert controllers[f"{arm}_arm_controller"]["joints"] == list(ARM_JOINTS[arm])
    assert controllers["both_arms_controller"]["joints"] == list(JOINT_NAMES)


def interfaces(joint: ET.Element, kind: str) -> list[str]:
    return [element.get("name") for element in joint.findall(f"{kind}_interface")]


def test_that_the_mock_hardware_offers_what_the_controllers_claim(
    controllers: dict, robot: ET.Element
) -> None:
    systems = robot.findall("ros2_control")
    assert {system.find("hardware/plugin").text for system in systems} == {
        "mock_components/GenericSystem"
    }
    offered = {joint.get("name"): joint for system in systems for joint in system.findall("joint")}
    for name in TRAJECTORY_CONTROLLERS:
        for joint in controllers[name]["joints"]:
            assert interfaces(offered[joint], "command") == controllers[name]["command_interfaces"]
            assert interfaces(offered[joint], "state") == controllers[name]["state_interfaces"]


def test_that_a_mimic_joint_takes_no_command_and_lives_beside_what_it_follows(
    robot: ET.Element,
) -> None:
    # ros2_control's component_parser refuses anything else.
    follows = {
        joint.get("name"): joint.find("mimic").get("joint")
        for joint in robot.findall("joint")
        if joint.find("mimic") is not None
    }
    assert follows == {f"{arm}_gripper_mimic": f"{arm}_gripper" for arm in ARMS}
    for system in robot.findall("ros2_control"):
        joints = {joint.get("name"): joint for joint in system.findall("joint")}
        for name in follows.keys() & joints.keys():
            assert not interfaces(joints[name], "command")
            assert follows[name] in joints
    listed = {joint.get("name") for joint in robot.findall("ros2_control/joint")}
    assert listed == {*JOINT_NAMES, *follows}


def test_that_every_controlled_joint_has_limits_to_enforce_and_starts_within_them(
    robot: ET.Element,
) -> None:
    limits = {joint.get("name"): joint.find("limit") for joint in robot.findall("joint")}
    started = {}
    for joint in robot.findall("ros2_control/joint"):
        value = float(joint.find("state_interface[@name='position']/param").text)
        limit = limits[joint.get("name")]
        assert float(limit.get("lower")) <= value <= float(limit.get("upper"))
        assert float(limit.get("velocity")) > 0
        started[joint.get("name")] = value
    for arm in ARMS:
        np.testing.assert_allclose([started[name] for name in ARM_JOINTS[arm]], HOME)
