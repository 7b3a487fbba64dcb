"""Scripted experts: from the object poses at reset to clean joint targets for both arms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import OutOfReach, UnknownTask
from dfm_vla_ros.robot.joints import ARMS
from dfm_vla_ros.sim.ik import ArmKinematics, Waypoint, follow, up
from dfm_vla_ros.sim.model import BLOCK_SIDE_M, HANDLE_HEIGHT_M, HANDLE_REACH_M, VEGETABLES
from dfm_vla_ros.sim.scene import Scene
from dfm_vla_ros.sim.twin import HOME, Twin
from dfm_vla_ros.sim.variation import DEMONSTRATORS, PLAIN, Demonstrator, Style, acting_arm

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


OPEN_M_EXPERT_PLACE_VEG, CLOSED_M_EXPERT_PLACE_VEG = 0.035, 0.002
HOVER_M_EXPERT_PLACE_VEG = 0.09
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
    points = _expert_place_veg_waypoints(start, at, yaw, scene.object_position("pot"), style.hover)
    return {arm: follow(kinematics, points, joints, style.pace)}


def _expert_place_veg_waypoints(
    start: Array, vegetable: Array, yaw: float, pot: Array, hover: float
) -> list[Waypoint]:
    """Reach, grasp across the vegetable, carry over the rim, release inside, retreat."""
    above = vegetable + up(hover * HOVER_M_EXPERT_PLACE_VEG)
    lifted = np.array([vegetable[0], vegetable[1], CARRY_HEIGHT_M])
    over_pot = np.array([pot[0], pot[1], CARRY_HEIGHT_M])
    in_pot = np.array([pot[0], pot[1], RELEASE_HEIGHT_M])
    plan = [
        (0.0, start, 0.0, OPEN_M_EXPERT_PLACE_VEG),
        (1.6, above, yaw, OPEN_M_EXPERT_PLACE_VEG),
        (0.9, vegetable, yaw, OPEN_M_EXPERT_PLACE_VEG),
        (0.4, vegetable, yaw, CLOSED_M_EXPERT_PLACE_VEG),
        (0.9, lifted, yaw, CLOSED_M_EXPERT_PLACE_VEG),
        (1.7, over_pot, 0.0, CLOSED_M_EXPERT_PLACE_VEG),
        (0.7, in_pot, 0.0, CLOSED_M_EXPERT_PLACE_VEG),
        (0.4, in_pot, 0.0, OPEN_M_EXPERT_PLACE_VEG),
        (0.7, over_pot, 0.0, OPEN_M_EXPERT_PLACE_VEG),
        (0.4, over_pot, 0.0, OPEN_M_EXPERT_PLACE_VEG),
    ]
    return [Waypoint(time, at, turn, 0.0, grip) for time, at, turn, grip in plan]


OPEN_M_EXPERT_POT_LIFT, CLOSED_M_EXPERT_POT_LIFT = 0.035, 0.0
HOVER_M_EXPERT_POT_LIFT = 0.07
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
        (0.0, start, 0.0, OPEN_M_EXPERT_POT_LIFT),
        (late, start, 0.0, OPEN_M_EXPERT_POT_LIFT),
        (2.0, at + up(style.hover * HOVER_M_EXPERT_POT_LIFT), yaw, OPEN_M_EXPERT_POT_LIFT),
        (0.9, at, yaw, OPEN_M_EXPERT_POT_LIFT),
        (0.4, at, yaw, CLOSED_M_EXPERT_POT_LIFT),
        (early, at, yaw, CLOSED_M_EXPERT_POT_LIFT),
        (1.6, at + up(RAISE_M), yaw, CLOSED_M_EXPERT_POT_LIFT),
        (1.0, at + up(RAISE_M), yaw, CLOSED_M_EXPERT_POT_LIFT),
    ]
    points = [Waypoint(time, place, turn, 0.0, grip) for time, place, turn, grip in plan]
    return follow(kinematics, points, joints, style.pace)


ArmTargets = dict[str, Array]
EXPERTS: dict[str, Callable[[Scene, Array, Style], ArmTargets]] = {
    "pot_lift": pot_lift_targets,
    "place_veg": place_veg_targets,
    "place_block": place_block_targets,
}
"""Task -> (scene at reset, home (14,), style) -> targets (T, 7) of each arm that moves."""


def expert_targets(task: str, twin: Twin, style: Style = PLAIN) -> Array:
    """Return clean commands (T, 14) for the episode that ``twin`` was just reset to.

    Row k is due at (k + 1) control periods after the reset; an arm that is not needed stays at
    home.

    Raises:
        UnknownTask: if there is no expert for ``task``.
        OutOfReach: if a waypoint cannot be reached.
    """
    if task not in EXPERTS:
        raise UnknownTask(f"no expert for task {task!r}; there are {', '.join(EXPERTS)}")
    moving = EXPERTS[task](twin.scene, HOME, style)
    length = max(len(targets) for targets in moving.values())
    return np.concatenate([_column(moving, arm, length) for arm in ARMS], axis=1)


def styled_targets(
    task: str, twin: Twin, demonstrator: Demonstrator = DEMONSTRATORS["one"]
) -> tuple[Array, Style]:
    """Return ``expert_targets`` in the first of the demonstrator's styles that reaches, and it.

    Raises:
        OutOfReach: none does.
    """
    *styles, last = demonstrator.styles(task, twin.seed)
    for style in styles:
        try:
            return expert_targets(task, twin, style), style
        except OutOfReach:
            continue
    return expert_targets(task, twin, last), last


def _column(moving: ArmTargets, arm: str, length: int) -> Array:
    """One arm's targets (length, 7): its own, the last held, or home."""
    home = HOME[7 * ARMS.index(arm) :][None, :7]
    targets = moving.get(arm, home)
    return np.concatenate([targets, np.repeat(targets[-1:], length - len(targets), axis=0)])
