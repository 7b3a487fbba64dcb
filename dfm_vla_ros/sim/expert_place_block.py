"""The expert of Place Block: the arm on the block's side picks it and puts it on the plate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.joints import ARMS
from dfm_vla_ros.sim.ik import ArmKinematics
from dfm_vla_ros.sim.objects import BLOCK_SIDE_M
from dfm_vla_ros.sim.scene import Scene
from dfm_vla_ros.sim.styles import PLAIN, Style, acting_arm
from dfm_vla_ros.sim.waypoints import Waypoint, follow, up

Array = NDArray[np.float64]

OPEN_M, CLOSED_M = 0.035, 0.008
"""Closed is past contact with the block: (0.02 - 0.008) m of spring holds it."""
HOVER_M = 0.08
OVER_PLATE_M = 0.04
"""As high as the arm reaches over the highest plate with the gripper straight down."""
RELEASE_GAP_M = 0.004


def place_block_targets(scene: Scene, home: Array, style: Style = PLAIN) -> dict[str, Array]:
    """Return targets (T, 7) of the arm on the block's side, or the other, by ``style``."""
    block, plate = scene.object_position("block"), scene.object_position("plate")
    yaw = scene.object_yaw("block") + style.turn * np.pi / 2
    arm = acting_arm(style, block[1])
    joints = home[7 * ARMS.index(arm) :][:6]
    kinematics = ArmKinematics(scene.model, arm)
    start, _ = kinematics.forward(joints)
    points = _waypoints(start, block, yaw, plate, style.hover)
    return {arm: follow(kinematics, points, joints, style.pace)}


def _waypoints(
    start: Array, block: Array, yaw: float, plate: Array, hover: float
) -> list[Waypoint]:
    """Reach, grasp, carry, release, retreat."""
    release = plate + up(BLOCK_SIDE_M / 2 + RELEASE_GAP_M)
    carry_height = max(block[2] + HOVER_M, release[2] + OVER_PLATE_M)
    lifted = np.array([block[0], block[1], carry_height])
    over_plate = release + up(OVER_PLATE_M)
    plan = [
        (0.0, start, 0.0, OPEN_M),
        (1.6, block + up(hover * HOVER_M), yaw, OPEN_M),
        (0.9, block, yaw, OPEN_M),
        (0.4, block, yaw, CLOSED_M),
        (0.8, lifted, yaw, CLOSED_M),
        (1.7, over_plate, 0.0, CLOSED_M),
        (0.7, release, 0.0, CLOSED_M),
        (0.4, release, 0.0, OPEN_M),
        (0.7, over_plate, 0.0, OPEN_M),
        (0.4, over_plate, 0.0, OPEN_M),
    ]
    return [Waypoint(time, at, turn, 0.0, grip) for time, at, turn, grip in plan]
