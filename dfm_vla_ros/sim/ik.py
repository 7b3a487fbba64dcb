"""Inverse kinematics of one arm by damped least squares."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import OutOfReach
from dfm_vla_ros.robot.joints import arm_joints

Array = NDArray[np.float64]

DAMPING = 1e-2
STEP_RAD = 0.3
LIMIT_MARGIN_RAD = 0.04
"""Solutions keep away from the joint limits, as the executor does."""


def grasp_rotation(yaw: float, tilt: float = 0.0) -> Array:
    """Return the rotation (3, 3) of a gripper that points down.

    At yaw 0 the fingers open along y and the camera is on the far side; ``tilt`` [rad] leans the
    approach from straight down towards the gripper's own front.
    """
    approach = np.array([np.sin(tilt), 0.0, -np.cos(tilt)])
    y = np.array([0.0, 1.0, 0.0])
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return turn @ np.column_stack([np.cross(y, approach), y, approach])


class ArmKinematics:
    """Forward and inverse kinematics of ``{arm}_tcp`` for the six joints of one arm."""

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
        missing = np.linalg.norm(error[:3])
        if missing > tolerance_m or np.linalg.norm(error[3:]) > 0.02:
            raise OutOfReach(
                f"pose {np.round(position, 3)} is {missing * 1e3:.1f} mm and "
                f"{np.linalg.norm(error[3:]):.3f} rad out of reach (allowed "
                f"{tolerance_m * 1e3:.0f} mm, 0.020 rad); move it nearer to the arm"
            )
        return joints

    def _error(self, joints: Array, position: Array, rotation: Array) -> Array:
        """Return the pose error (6,): translation [m], rotation vector [rad], in the world."""
        at, now = self.forward(joints)
        turn = np.zeros(4)
        vector = np.zeros(3)
        mujoco.mju_mat2Quat(turn, (rotation @ now.T).ravel())
        mujoco.mju_quat2Vel(vector, turn, 1.0)
        return np.concatenate([position - at, vector])

    def _step(self, joints: Array, error: Array) -> Array:
        """One damped step: dq = J^T (J J^T + damping^2 I)^-1 e, clipped."""
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


CONTROL_PERIOD_S = 0.1


def up(height_m: float) -> Array:
    """Return the vector (3,) [m] that points up by ``height_m``."""
    return np.array([0.0, 0.0, height_m])


@dataclass(frozen=True)
class Waypoint:
    """Where one gripper is at the end of a segment.

    Attributes:
        duration_s: of the segment that ends here.
        position: of the tcp (3,) [m].
        yaw: of the gripper about z [rad]; 0 opens along y.
        tilt: of the approach from straight down [rad].
        gripper: travel of one finger [m].
    """

    duration_s: float
    position: Array
    yaw: float
    tilt: float
    gripper: float


def follow(
    kinematics: ArmKinematics, waypoints: Sequence[Waypoint], joints: Array, pace: float = 1.0
) -> Array:
    """Return targets (T, 7), one per control period, along the waypoints from ``joints`` (6,).

    The first waypoint is where the arm stands (its duration is not used); row 0 is one period
    after it. Each segment is a smooth step s = 3 u^2 - 2 u^3 in position, yaw, tilt and gripper;
    it takes ``pace`` times its duration.

    Raises:
        OutOfReach: if a point on the way is not reached within 2 mm.
    """
    rows = []
    for start, end in itertools.pairwise(waypoints):
        steps = round(pace * end.duration_s / CONTROL_PERIOD_S)
        for u in np.arange(1, steps + 1) / steps:
            point = _between(start, end, u * u * (3 - 2 * u))
            joints = kinematics.solve(
                point.position, grasp_rotation(point.yaw, point.tilt), joints
            )
            rows.append(np.append(joints, point.gripper))
    return np.array(rows)


def _between(start: Waypoint, end: Waypoint, s: float) -> Waypoint:
    """Blend two waypoints, s = 0 (start) to 1 (end)."""
    mix = {
        name: (1 - s) * getattr(start, name) + s * getattr(end, name)
        for name in ("position", "yaw", "tilt", "gripper")
    }
    return Waypoint(duration_s=0.0, **mix)
