"""Scripted experts: from the object poses at reset to clean joint targets for both arms."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import OutOfReach, UnknownTask
from dfm_vla_ros.robot.joints import ARMS, arm_joints
from dfm_vla_ros.sim.model import BLOCK_SIDE_M, HANDLE_HEIGHT_M, HANDLE_REACH_M, VEGETABLES
from dfm_vla_ros.sim.scene import Scene
from dfm_vla_ros.sim.twin import HOME, Twin
from dfm_vla_ros.sim.variation import DEMONSTRATORS, PLAIN, Demonstrator, Style, acting_arm

Array = NDArray[np.float64]

CONTROL_PERIOD_S = 0.1
DAMPING = 1e-2
STEP_RAD = 0.3
LIMIT_MARGIN_RAD = 0.04
"""Solutions keep away from the joint limits, as the executor does."""


def up(height_m: float) -> Array:
    """Return the vector (3,) [m] that points up by ``height_m``."""
    return np.array([0.0, 0.0, height_m])


def grasp_rotation(yaw: float) -> Array:
    """Return the rotation (3, 3) of a gripper that points down.

    At yaw 0 the fingers open along y and the camera is on the far side.
    """
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return turn @ np.diag([-1.0, 1.0, -1.0])


class ArmKinematics:
    """Forward and inverse kinematics of ``{arm}_tcp`` for the six joints of one arm.

    The inverse takes damped least squares steps: dq = J^T (J J^T + damping^2 I)^-1 e, clipped.
    """

    def __init__(self, model: mujoco.MjModel, arm: str) -> None:
        """Use ``model`` with data of its own, so the simulation is not touched."""
        self._model, self._data = model, mujoco.MjData(model)
        self._tcp = model.body(f"{arm}_tcp").id
        joints = [model.joint(name) for name in arm_joints(arm)[:6]]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dof = np.array([joint.dofadr[0] for joint in joints])
        self._lower = np.array([joint.range[0] for joint in joints]) + LIMIT_MARGIN_RAD
        self._upper = np.array([joint.range[1] for joint in joints]) - LIMIT_MARGIN_RAD
        self._jacobian = np.zeros((6, model.nv))

    def forward(self, joints: Array) -> tuple[Array, Array]:
        """Return position (3,) [m] and rotation (3, 3) of the tcp for ``joints`` (6,) [rad]."""
        self._data.qpos[self._qpos] = joints
        mujoco.mj_kinematics(self._model, self._data)
        body = self._data.body(self._tcp)
        return body.xpos.copy(), body.xmat.reshape(3, 3).copy()

    def solve(
        self, position: Array, rotation: Array, start: Array, tolerance_m: float = 2e-3
    ) -> Array:
        """Return joints (6,) that bring the tcp to a pose, from ``start`` (6,).

        Raises:
            OutOfReach: if more than ``tolerance_m`` of position, or 0.02 rad, remains.
        """
        joints = np.clip(start, self._lower, self._upper)
        for _ in range(100):
            error = self._error(joints, position, rotation)
            if np.linalg.norm(error[:3]) < 1e-4 and np.linalg.norm(error[3:]) < 1e-3:
                return joints
            joints = self._step(joints, error)
        error = self._error(joints, position, rotation)
        missing_m, missing_rad = np.linalg.norm(error[:3]), np.linalg.norm(error[3:])
        if missing_m > tolerance_m or missing_rad > 0.02:
            raise OutOfReach(
                f"pose {np.round(position, 3)} is {missing_m * 1e3:.1f} mm and "
                f"{missing_rad:.3f} rad out of reach (allowed "
                f"{tolerance_m * 1e3:.0f} mm, 0.020 rad); move it nearer to the arm"
            )
        return joints

    def _error(self, joints: Array, position: Array, rotation: Array) -> Array:
        """Return the pose error (6,): translation [m], rotation vector [rad], in the world."""
        at, now = self.forward(joints)
        turn, vector = np.zeros(4), np.zeros(3)
        mujoco.mju_mat2Quat(turn, (rotation @ now.T).ravel())
        mujoco.mju_quat2Vel(vector, turn, 1.0)
        return np.concatenate([position - at, vector])

    def _step(self, joints: Array, error: Array) -> Array:
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacBody(
            self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._tcp
        )
        jacobian = self._jacobian[:, self._dof]
        gram = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
        step = jacobian.T @ np.linalg.solve(gram, error)
        largest = np.abs(step).max()
        if largest > STEP_RAD:
            step *= STEP_RAD / largest
        return np.clip(joints + step, self._lower, self._upper)


@dataclass(frozen=True)
class Waypoint:
    """Where one gripper is at the end of a segment.

    Attributes:
        duration_s: of the segment that ends here.
        position: of the tcp (3,) [m].
        yaw: of the gripper about z [rad]; 0 opens along y.
        gripper: travel of one finger [m].
    """

    duration_s: float
    position: Array
    yaw: float
    gripper: float


def follow(
    kinematics: ArmKinematics, waypoints: Sequence[Waypoint], joints: Array, pace: float = 1.0
) -> Array:
    """Return targets (T, 7), one per control period, along the waypoints from ``joints`` (6,).

    The first waypoint is where the arm stands (its duration is not used); row 0 is one period
    after it. Each segment is a smooth step s = 3 u^2 - 2 u^3 in position, yaw and gripper; it
    takes ``pace`` times its duration.

    Raises:
        OutOfReach: if a point on the way is not reached within 2 mm.
    """
    rows = []
    for start, end in itertools.pairwise(waypoints):
        steps = round(pace * end.duration_s / CONTROL_PERIOD_S)
        for u in np.arange(1, steps + 1) / steps:
            s = u * u * (3 - 2 * u)
            position = (1 - s) * start.position + s * end.position
            yaw = (1 - s) * start.yaw + s * end.yaw
            joints = kinematics.solve(position, grasp_rotation(yaw), joints)
            rows.append(np.append(joints, (1 - s) * start.gripper + s * end.gripper))
    return np.array(rows)


OPEN_M = 0.035
"""Travel of a finger that lets go of everything."""
BLOCK_GRIP_M, VEGETABLE_GRIP_M, POT_GRIP_M = 0.008, 0.002, 0.0
"""Closed is past contact: (0.02 - 0.008) m of spring holds the block."""
BLOCK_HOVER_M, VEGETABLE_HOVER_M, POT_HOVER_M = 0.08, 0.09, 0.07
"""From here an object is approached straight down."""
LIFT_BLOCK_M, OVER_PLATE_M = 0.08, 0.04
"""As high as the arm reaches over the highest plate with the gripper straight down."""
RELEASE_GAP_M = 0.004
ALONG_M = 0.018
"""From the middle of a vegetable to where it is taken near an end."""
CARRY_HEIGHT_M, RELEASE_HEIGHT_M = 0.125, 0.06
"""Of the tcp: the vegetable clears the rim (0.07 m) by 4 cm, and falls from inside it."""
RAISE_POT_M = 0.125
HEAD_START_S = 1.5
"""Of the hand that takes the pot first, where one does."""

Point = tuple[float, Array, float, float]
"""The fields of a waypoint."""
ArmTargets = dict[str, Array]
"""Targets (T, 7) of each arm that moves."""


def _place_block(scene: Scene, style: Style) -> ArmTargets:
    """The arm on the block's side, or the other, puts the block on the plate."""
    block, plate = scene.object_position("block"), scene.object_position("plate")
    yaw = scene.object_yaw("block") + style.turn * np.pi / 2
    release = plate + up(BLOCK_SIDE_M / 2 + RELEASE_GAP_M)
    height = max(block[2] + LIFT_BLOCK_M, release[2] + OVER_PLATE_M)
    points = [
        (1.6, block + up(style.hover * BLOCK_HOVER_M), yaw, OPEN_M),
        (0.9, block, yaw, OPEN_M),
        (0.4, block, yaw, BLOCK_GRIP_M),
        (0.8, np.array([*block[:2], height]), yaw, BLOCK_GRIP_M),
        *_release(release + up(OVER_PLATE_M), release, BLOCK_GRIP_M),
    ]
    arm = acting_arm(style, block[1])
    return {arm: _from_home(scene, arm, points, style.pace)}


def _place_vegetable(scene: Scene, style: Style) -> ArmTargets:
    """The arm on the vegetable's side, or the other, carries it over the rim into the pot."""
    name = next(name for name in VEGETABLES if scene.on_table(name))
    at, yaw, pot = (
        scene.object_position(name),
        scene.object_yaw(name),
        scene.object_position("pot"),
    )
    arm = acting_arm(style, at[1])
    if style.along:
        at = at + style.along * ALONG_M * scene.object_rotation(name)[:, 0]
    over, inside = (np.array([*pot[:2], z]) for z in (CARRY_HEIGHT_M, RELEASE_HEIGHT_M))
    points = [
        (1.6, at + up(style.hover * VEGETABLE_HOVER_M), yaw, OPEN_M),
        (0.9, at, yaw, OPEN_M),
        (0.4, at, yaw, VEGETABLE_GRIP_M),
        (0.9, np.array([*at[:2], CARRY_HEIGHT_M]), yaw, VEGETABLE_GRIP_M),
        *_release(over, inside, VEGETABLE_GRIP_M),
    ]
    return {arm: _from_home(scene, arm, points, style.pace)}


def _lift_pot(scene: Scene, style: Style) -> ArmTargets:
    """Both arms lift together, and take the pot together or in turn."""
    return {arm: _lift_handle(scene, arm, style) for arm in ARMS}


def _lift_handle(scene: Scene, arm: str, style: Style) -> Array:
    """Reach over the handle, take it, lift, hold.

    The fingers close along the pot's x. Of the two yaws that do, joint 6 reaches the one that
    turns the gripper's camera to the inside.
    """
    side = 1.0 if arm == "left" else -1.0
    handle = np.array([0.0, side * HANDLE_REACH_M, HANDLE_HEIGHT_M])
    at = scene.object_position("pot") + scene.object_rotation("pot") @ handle
    yaw = scene.object_yaw("pot") - side * np.pi / 2
    waits_s = HEAD_START_S if style.order not in ("together", arm) else 0.0
    holds_s = HEAD_START_S if style.order == arm else 0.0
    points = [
        (2.0, at + up(style.hover * POT_HOVER_M), yaw, OPEN_M),
        (0.9, at, yaw, OPEN_M),
        (0.4, at, yaw, POT_GRIP_M),
        (holds_s, at, yaw, POT_GRIP_M),
        (1.6, at + up(RAISE_POT_M), yaw, POT_GRIP_M),
        (1.0, at + up(RAISE_POT_M), yaw, POT_GRIP_M),
    ]
    return _from_home(scene, arm, points, style.pace, waits_s)


def _release(
    over: Array, release: Array, grip_m: float
) -> list[tuple[float, Array, float, float]]:
    """Carry to ``over``, let go at ``release``, retreat."""
    return [
        (1.7, over, 0.0, grip_m),
        (0.7, release, 0.0, grip_m),
        (0.4, release, 0.0, OPEN_M),
        (0.7, over, 0.0, OPEN_M),
        (0.4, over, 0.0, OPEN_M),
    ]


def _from_home(
    scene: Scene,
    arm: str,
    points: Sequence[Point],
    pace: float,
    waits_s: float = 0.0,
) -> Array:
    """Return targets (T, 7) from home, after a wait, along the points."""
    joints = HOME[7 * ARMS.index(arm) :][:6]
    kinematics = ArmKinematics(scene.model, arm)
    start, _ = kinematics.forward(joints)
    whole = [(0.0, start, 0.0, OPEN_M), (waits_s, start, 0.0, OPEN_M), *points]
    return follow(kinematics, [Waypoint(*point) for point in whole], joints, pace)


EXPERTS: dict[str, Callable[[Scene, Style], ArmTargets]] = {
    "pot_lift": _lift_pot,
    "place_veg": _place_vegetable,
    "place_block": _place_block,
}
"""Task -> (scene at reset, style) -> targets."""


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
    moving = EXPERTS[task](twin.scene, style)
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
