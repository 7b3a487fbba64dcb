"""The URDF: where links are, against MuJoCo's own reading, and limits by joint name."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from dfm_vla_ros.robot.joints import ARMS, JOINT_NAMES
from dfm_vla_ros.robot.model import TIPS, RobotModel, UrdfError, robot_description

URDF = robot_description()


@pytest.fixture(scope="module")
def robot() -> RobotModel:
    return RobotModel(URDF)


@pytest.fixture(scope="module")
def postures() -> np.ndarray:
    grippers = [JOINT_NAMES.index(f"{arm}_gripper") for arm in ARMS]
    drawn = np.random.default_rng(0).uniform(-1.2, 1.2, (20, len(JOINT_NAMES)))
    drawn[:, grippers] = np.abs(drawn[:, grippers]) * 0.02
    return drawn


def test_that_every_link_is_where_mujoco_puts_it(robot: RobotModel, postures: np.ndarray) -> None:
    model = mujoco.MjModel.from_xml_string(URDF)
    data = mujoco.MjData(model)
    found = robot.poses(postures)
    for row, posture in enumerate(postures):
        for name, value in zip(JOINT_NAMES, posture, strict=True):
            data.joint(name).qpos[0] = value
        for arm in ARMS:
            data.joint(f"{arm}_gripper_mimic").qpos[0] = data.joint(f"{arm}_gripper").qpos[0]
        mujoco.mj_kinematics(model, data)
        for link in robot.links[1:]:
            body = data.body(link)
            np.testing.assert_allclose(found[link][row, :3, 3], body.xpos, atol=1e-9)
            np.testing.assert_allclose(
                found[link][row, :3, :3], body.xmat.reshape(3, 3), atol=1e-9
            )


def test_that_the_tips_of_any_batch_have_its_shape(
    robot: RobotModel, postures: np.ndarray
) -> None:
    points = robot.points(postures.reshape(4, 5, 14))
    assert points.shape == (4, 5, len(TIPS), 3)
    np.testing.assert_allclose(points[2, 3], robot.points(postures[13]))


def test_that_a_link_that_a_joint_carries_is_not_fixed(robot: RobotModel) -> None:
    assert {"third_camera_optical_frame", "left_base_link", "left_tcp"} <= robot.fixed
    assert {"left_link1", "right_finger", "right_finger_mimic"}.isdisjoint(robot.fixed)
    assert robot.root == "base_link"


JOINT3 = 'name="left_joint3"'
DAMAGE = {
    "is no XML": lambda text: text[:-30],
    "no joint 'left_joint3'": lambda text: text.replace(JOINT3, 'name="other"'),
    "'left_joint3' is of type 'planar'": lambda text: text.replace(
        f'{JOINT3} type="revolute"', f'{JOINT3} type="planar"'
    ),
    "'left_link2'.* of the URDF do not hang on 'base_link'": lambda text: text.replace(
        '<parent link="left_link1"/>', '<parent link="left_link4"/>'
    ),
    "2 roots": lambda text: text.replace("</robot>", '<link name="loose"/></robot>'),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_that_a_description_that_is_of_no_use_is_refused(message: str) -> None:
    with pytest.raises(UrdfError, match=message):
        assert RobotModel(DAMAGE[message](URDF)).links


def test_that_an_unknown_link_and_a_wrong_size_are_refused(robot: RobotModel) -> None:
    with pytest.raises(UrdfError, match="no link 'tail'"):
        robot.points(np.zeros(14), ("tail",))
    with pytest.raises(UrdfError, match=r"shape \(13,\); the last axis must be 14"):
        robot.points(np.zeros(13))


ENDS = '<parent link="a"/><child link="b"/>'
TWO_JOINTS = f"""<robot name="r">
  <joint name="j1" type="revolute">{ENDS}<limit lower="-1" upper="2" velocity="5"/></joint>
  <joint name="grip" type="prismatic">{ENDS}<limit lower="0" upper="0.03" velocity="1"/></joint>
  <joint name="free" type="continuous">{ENDS}</joint>
  <joint name="odd" type="revolute">{ENDS}<limit lower="1" upper="-1" velocity="5"/></joint>
  <joint name="still" type="revolute">{ENDS}<limit lower="0" upper="1" velocity="0"/></joint>
  <joint name="half" type="revolute">{ENDS}<limit lower="0"/></joint>
  <ros2_control name="c" type="system"><joint name="j1"/></ros2_control>
</robot>"""


def test_that_limits_are_read_by_name_in_the_order_asked() -> None:
    limits = RobotModel(TWO_JOINTS, ("grip", "j1")).limits(arm_acceleration=7.0)
    assert limits.names == ("grip", "j1")
    np.testing.assert_array_equal(limits.lower, [0, -1])
    np.testing.assert_array_equal(limits.upper, [0.03, 2])
    np.testing.assert_array_equal(limits.velocity, [1, 5])
    assert limits.acceleration[1] == 7.0
    assert limits.prismatic.tolist() == [True, False]


def test_that_a_margin_leaves_the_grippers_their_travel() -> None:
    shrunk = RobotModel(TWO_JOINTS, ("grip", "j1")).limits().shrunk(0.1)
    np.testing.assert_allclose(shrunk.lower, [0, -0.9])
    np.testing.assert_allclose(shrunk.upper, [0.03, 1.9])


@pytest.mark.parametrize(
    ("joint", "message"),
    [
        ("j9", r"the URDF has no joint 'j9'; it has \['free', 'grip', 'half', 'j1'"),
        ("free", "joint 'free' has no <limit> in the URDF"),
        ("odd", "'odd': limit 1.0 .. -1.0, .* lower must not exceed upper"),
        ("still", "'still': .*velocity 0.0; .* velocity must be positive"),
        ("half", "joint 'half': unusable <limit>"),
    ],
)
def test_that_a_urdf_without_usable_limits_is_refused(joint: str, message: str) -> None:
    with pytest.raises(UrdfError, match=message):
        RobotModel(TWO_JOINTS, (joint,)).limits()


def test_that_the_shipped_urdf_has_limits_for_all_fourteen_joints(robot: RobotModel) -> None:
    limits = robot.limits()
    assert limits.names == JOINT_NAMES
    assert limits.upper[6] == limits.upper[13] == 0.035
