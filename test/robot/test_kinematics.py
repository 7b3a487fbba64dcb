"""Where links are, against MuJoCo's own reading of the URDF."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dfm_vla_ros.robot.joints import ARMS, JOINT_NAMES
from dfm_vla_ros.robot.kinematics import (
    TIPS,
    Kinematics,
    KinematicsError,
    pose,
    quaternion,
    robot_description,
)

URDF = robot_description()


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(URDF)


@pytest.fixture(scope="module")
def postures() -> np.ndarray:
    grippers = [JOINT_NAMES.index(f"{arm}_gripper") for arm in ARMS]
    drawn = np.random.default_rng(0).uniform(-1.2, 1.2, (20, len(JOINT_NAMES)))
    drawn[:, grippers] = np.abs(drawn[:, grippers]) * 0.02
    return drawn


def test_that_every_link_is_where_mujoco_puts_it(
    kinematics: Kinematics, postures: np.ndarray
) -> None:
    model = mujoco.MjModel.from_xml_string(URDF)
    data = mujoco.MjData(model)
    found = kinematics.poses(postures)
    for row, posture in enumerate(postures):
        for name, value in zip(JOINT_NAMES, posture, strict=True):
            data.joint(name).qpos[0] = value
        for arm in ARMS:
            data.joint(f"{arm}_gripper_mimic").qpos[0] = data.joint(f"{arm}_gripper").qpos[0]
        mujoco.mj_kinematics(model, data)
        for link in kinematics.links[1:]:
            body = data.body(link)
            np.testing.assert_allclose(found[link][row, :3, 3], body.xpos, atol=1e-9)
            np.testing.assert_allclose(
                found[link][row, :3, :3], body.xmat.reshape(3, 3), atol=1e-9
            )


def test_that_the_tips_of_any_batch_have_its_shape(
    kinematics: Kinematics, postures: np.ndarray
) -> None:
    points = kinematics.points(postures.reshape(4, 5, 14))
    assert points.shape == (4, 5, len(TIPS), 3)
    np.testing.assert_allclose(points[2, 3], kinematics.points(postures[13]))


def test_that_a_link_that_a_joint_carries_is_not_fixed(kinematics: Kinematics) -> None:
    assert {"third_camera_optical_frame", "left_base_link", "left_tcp"} <= kinematics.fixed
    assert {"left_link1", "right_finger", "right_finger_mimic"}.isdisjoint(kinematics.fixed)
    assert kinematics.root == "base_link"


def test_that_quaternions_are_scipys_with_w_not_negative() -> None:
    turns = [*Rotation.random(200, random_state=0), Rotation.from_euler("x", np.pi)]
    for turn in turns:
        got, expected = quaternion(turn.as_matrix()), turn.as_quat()
        assert got[3] >= 0
        assert min(abs(got - expected).max(), abs(got + expected).max()) < 1e-9


def test_that_an_origin_turns_about_the_fixed_axes_in_the_order_x_y_z() -> None:
    expected = Rotation.from_euler("xyz", [0.3, -0.7, 1.9]).as_matrix()
    np.testing.assert_allclose(pose((1, 2, 3), (0.3, -0.7, 1.9))[:3, :3], expected, atol=1e-12)


JOINT3 = 'name="left_joint3"'
DAMAGE = {
    "is no XML": lambda text: text[:-30],
    "no joint 'left_joint3'": lambda text: text.replace(JOINT3, 'name="other"'),
    "'left_joint3' is of type 'planar'": lambda text: text.replace(
        f'{JOINT3} type="revolute"', f'{JOINT3} type="planar"'
    ),
    "2 roots": lambda text: text.replace("</robot>", '<link name="loose"/></robot>'),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_that_a_description_that_is_of_no_use_is_refused(message: str) -> None:
    with pytest.raises(KinematicsError, match=message):
        Kinematics(DAMAGE[message](URDF))


def test_that_an_unknown_link_and_a_wrong_size_are_refused(kinematics: Kinematics) -> None:
    with pytest.raises(KinematicsError, match="no link 'tail'"):
        kinematics.points(np.zeros(14), ("tail",))
    with pytest.raises(KinematicsError, match=r"shape \(13,\); the last axis must be 14"):
        kinematics.points(np.zeros(13))
