"""The expert of Pot Lift: each arm takes the handle on its side; both lift together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.joints import ARMS
from dfm_vla_ros.sim.ik import ArmKinematics
from dfm_vla_ros.sim.objects import HANDLE_HEIGHT_M, HANDLE_REACH_M
from dfm_vla_ros.sim.scene import Scene
from dfm_vla_ros.sim.styles import PLAIN, Style
from dfm_vla_ros.sim.waypoints import Waypoint, follow, up

Array = NDArray[np.float64]

OPEN_M, CLOSED_M = 0.035, 0.0
HOVER_M = 0.07
RAISE_M = 0.125
HEAD_START_S = 1.5
"""Of the hand that takes the pot first, where one does."""


def pot_lift_targets(scene: Scene, home: Array, style: Style = PLAIN) -> dict[str, Array]:
    """Return targets (T, 7) of both arms: they lift together, and take the pot so or in turn."""
    return {arm: _arm_targets(scene, arm, home, style) for arm in ARMS}


def _arm_targets(scene: Scene, arm: str, home: Array, style: Style) -> Array:
    """Reach over the handle, take it, lift, hold.

    The fingers close along the pot's x. Of the two yaws that do, joint 6 reaches the one that
    turns the gripper's camera to the inside.
    """
    side = 1.0 if arm == "left" else -1.0
    handle = np.array([0.0, side * HANDLE_REACH_M, HANDLE_HEIGHT_M])
    at = scene.object_position("pot") + scene.object_rotation("pot") @ handle
    yaw = scene.object_yaw("pot") - side * np.pi / 2
    joints = home[7 * ARMS.index(arm) :][:6]
    kinematics = ArmKinematics(scene.model, arm)
    start, _ = kinematics.forward(joints)
    early, late = (0.0, 0.0) if style.order == "together" else (HEAD_START_S, 0.0)
    if style.order not in ("together", arm):
        early, late = late, early
    plan = [
        (0.0, start, 0.0, OPEN_M),
        (late, start, 0.0, OPEN_M),
        (2.0, at + up(style.hover * HOVER_M), yaw, OPEN_M),
        (0.9, at, yaw, OPEN_M),
        (0.4, at, yaw, CLOSED_M),
        (early, at, yaw, CLOSED_M),
        (1.6, at + up(RAISE_M), yaw, CLOSED_M),
        (1.0, at + up(RAISE_M), yaw, CLOSED_M),
    ]
    points = [Waypoint(time, place, turn, 0.0, grip) for time, place, turn, grip in plan]
    return follow(kinematics, points, joints, style.pace)
