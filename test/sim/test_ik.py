from __future__ import annotations

import numpy as np
import pytest

from dfm_vla_ros.errors import OutOfReach
from dfm_vla_ros.robot.joints import ARMS
from dfm_vla_ros.sim.experts import ArmKinematics, grasp_rotation
from dfm_vla_ros.sim.twin import HOME, Twin


@pytest.mark.parametrize("arm", ARMS)
def test_that_a_solution_reaches_the_pose(twin: Twin, arm: str) -> None:
    kinematics = ArmKinematics(twin.scene.model, arm)
    side = 1.0 if arm == "left" else -1.0
    for x, y, z, yaw in [(0.3, 0.2, 0.03, 0.5), (0.4, 0.3, 0.1, -0.5), (0.28, 0.0, 0.12, 0.0)]:
        position, rotation = np.array([x, side * y, z]), grasp_rotation(yaw)
        reached = kinematics.forward(kinematics.solve(position, rotation, HOME[:6]))
        np.testing.assert_allclose(reached[0], position, atol=2e-3)
        np.testing.assert_allclose(reached[1], rotation, atol=0.02)


def test_that_a_pose_out_of_reach_says_how_far_it_is(twin: Twin) -> None:
    kinematics = ArmKinematics(twin.scene.model, "left")
    with pytest.raises(OutOfReach, match=r"mm and .* rad out of reach \(allowed 2 mm"):
        kinematics.solve(np.array([0.9, 0.2, 0.1]), grasp_rotation(0.0), HOME[:6])


def test_that_solving_leaves_the_simulation_alone(twin: Twin) -> None:
    twin.reset("place_block", 0)
    before = twin.scene.data.qpos.copy()
    kinematics = ArmKinematics(twin.scene.model, "right")
    kinematics.solve(np.array([0.3, -0.2, 0.05]), grasp_rotation(0.3), HOME[7:13])
    np.testing.assert_array_equal(twin.scene.data.qpos, before)


def test_that_a_grasp_points_down() -> None:
    rotation = grasp_rotation(0.3)
    np.testing.assert_allclose(rotation[:, 2], [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
