"""The expert of Place Veg.: the arm on the vegetable's side drops it into the pot."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.joints import ARMS
from dfm_vla_ros.sim.ik import ArmKinematics
from dfm_vla_ros.sim.objects import VEGETABLES
from dfm_vla_ros.sim.scene import Scene
from dfm_vla_ros.sim.styles import PLAIN, Style, acting_arm
from dfm_vla_ros.sim.waypoints import Waypoint, follow, up

Array = NDArray[np.float64]

OPEN_M, CLOSED_M = 0.035, 0.002
HOVER_M = 0.09
ALONG_M = 0.018
"""From the middle of a vegetable to where it is taken near an end."""
CARRY_HEIGHT_M, RELEASE_HEIGHT_M = 0.125, 0.06
"""Of the tcp: the vegetable clears the rim (0.07 m) by 4 cm, and falls from inside it."""


def place_veg_targets(scene: Scene, home: Array, style: Style = PLAIN) -> dict[str, Array]:
    """Return targets (T, 7) of the arm on the vegetable's side, or the other, by ``style``."""
    vegetable = next(name for name in VEGETABLES if scene.on_table(name))
    at, yaw = scene.object_position(vegetable), scene.object_yaw(vegetable)
    arm = acting_arm(style, at[1])
    if style.along:
        at = at + style.along * ALONG_M * scene.object_rotation(vegetable)[:, 0]
    joints = home[7 * ARMS.index(arm) :][:6]
    kinematics = ArmKinematics(scene.model, arm)
    start, _ = kinematics.forward(joints)
    points = _waypoints(start, at, yaw, scene.object_position("pot"), style.hover)
    return {arm: follow(kinematics, points, joints, style.pace)}


def _waypoints(
    start: Array, vegetable: Array, yaw: float, pot: Array, hover: float
) -> list[Waypoint]:
    """Reach, grasp across the vegetable, carry over the rim, release inside, retreat."""
    above = vegetable + up(hover * HOVER_M)
    lifted = np.array([vegetable[0], vegetable[1], CARRY_HEIGHT_M])
    over_pot = np.array([pot[0], pot[1], CARRY_HEIGHT_M])
    in_pot = np.array([pot[0], pot[1], RELEASE_HEIGHT_M])
    plan = [
        (0.0, start, 0.0, OPEN_M),
        (1.6, above, yaw, OPEN_M),
        (0.9, vegetable, yaw, OPEN_M),
        (0.4, vegetable, yaw, CLOSED_M),
        (0.9, lifted, yaw, CLOSED_M),
        (1.7, over_pot, 0.0, CLOSED_M),
        (0.7, in_pot, 0.0, CLOSED_M),
        (0.4, in_pot, 0.0, OPEN_M),
        (0.7, over_pot, 0.0, OPEN_M),
        (0.4, over_pot, 0.0, OPEN_M),
    ]
    return [Waypoint(time, at, turn, 0.0, grip) for time, at, turn, grip in plan]
