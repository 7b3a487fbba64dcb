"""State of the twin's world by name: joints, objects, contacts."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.joints import ARMS, JOINT_NAMES
from dfm_vla_ros.sim.model import FIXED_OBJECTS, FREE_OBJECTS, POSE_PARTS, build_model

Array = NDArray[np.float64]

_PARKING = {name: (-4.0, 0.5 * i, 0.3) for i, name in enumerate(FREE_OBJECTS + FIXED_OBJECTS)}
"""Behind the robot, where no camera looks."""


class Scene:
    """Model and data of MuJoCo, with joints and objects by name."""

    def __init__(self) -> None:
        """Compile the model."""
        self.model = build_model()
        self.data = mujoco.MjData(self.model)
        joints = [self.model.joint(name) for name in JOINT_NAMES]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dof = np.array([joint.dofadr[0] for joint in joints])
        self.lower = np.array([joint.range[0] for joint in joints])
        self.upper = np.array([joint.range[1] for joint in joints])
        self._geom_body = np.array(self.model.geom_bodyid)
        self.fingers = {
            arm: {self.model.body(f"{arm}_finger{suffix}").id for suffix in ("", "_mimic")}
            for arm in ARMS
        }

    def reset(self, positions: Array) -> None:
        """Put the robot at rest at ``positions`` (14,) and park every object."""
        mujoco.mj_resetData(self.model, self.data)
        for name in FREE_OBJECTS + FIXED_OBJECTS:
            self.park(name)
        self.data.qpos[self._qpos] = positions
        for arm in ARMS:
            mimic = self.model.joint(f"{arm}_gripper_mimic").qposadr[0]
            self.data.qpos[mimic] = positions[JOINT_NAMES.index(f"{arm}_gripper")]
        self.data.ctrl[:] = positions
        mujoco.mj_forward(self.model, self.data)

    @property
    def positions(self) -> Array:
        """Measured joint positions (14,) [rad], grippers [m]."""
        return self.data.qpos[self._qpos].copy()

    @property
    def velocities(self) -> Array:
        """Measured joint velocities (14,) [rad/s], grippers [m/s]."""
        return self.data.qvel[self._dof].copy()

    def park(self, name: str) -> None:
        """Take an object off the table; a parked free object is weightless and stays."""
        self.place(name, np.array(_PARKING[name]))
        self.model.body_gravcomp[self.model.body(name).id] = 1.0

    def place(self, name: str, position: Array, yaw: float = 0.0) -> None:
        """Put an object at rest at ``position`` (3,) [m], turned by ``yaw`` [rad] about z."""
        quaternion = (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
        body = self.model.body(name)
        self.model.body_gravcomp[body.id] = 0.0
        if name in FIXED_OBJECTS:
            self.data.mocap_pos[body.mocapid[0]] = position
            self.data.mocap_quat[body.mocapid[0]] = quaternion
            return
        start = self.model.joint(name).qposadr[0]
        self.data.qpos[start : start + 7] = (*position, *quaternion)
        dof = self.model.joint(name).dofadr[0]
        self.data.qvel[dof : dof + 6] = 0.0

    def placed(self, name: str) -> Array:
        """Return an object's origin (3,) [m] as it was put, before any physics or forward pass."""
        if name in FIXED_OBJECTS:
            return self.data.mocap_pos[self.model.body(name).mocapid[0]].copy()
        start = self.model.joint(name).qposadr[0]
        return self.data.qpos[start : start + 3].copy()

    def shift(self, name: str, offset_m: Array) -> None:
        """Move a free object by (2,) [m] along the table."""
        start = self.model.joint(name).qposadr[0]
        self.data.qpos[start : start + 2] += offset_m

    def object_position(self, name: str) -> Array:
        """Return an object's origin (3,) [m] in ``base_link``."""
        return self.data.body(name).xpos.copy()

    def object_rotation(self, name: str) -> Array:
        """Return an object's rotation matrix (3, 3)."""
        return self.data.body(name).xmat.reshape(3, 3).copy()

    def on_table(self, name: str) -> bool:
        """Return whether an object is in use, not parked."""
        return bool(self.model.body_gravcomp[self.model.body(name).id] == 0.0)

    def object_yaw(self, name: str) -> float:
        """Return the heading of an object's x axis about z [rad]."""
        rotation = self.object_rotation(name)
        return float(np.arctan2(rotation[1, 0], rotation[0, 0]))

    def object_pose(self, name: str) -> Array:
        """Return x, y, z [m], cosine and sine of the yaw (5,); zeros if the object is parked."""
        if not self.on_table(name):
            return np.zeros(len(POSE_PARTS))
        yaw = self.object_yaw(name)
        return np.array([*self.object_position(name), np.cos(yaw), np.sin(yaw)])

    def lean(self, name: str) -> float:
        """Return the angle [rad] between an object's z axis and the vertical."""
        return float(np.arccos(np.clip(self.object_rotation(name)[2, 2], -1.0, 1.0)))

    def object_speed(self, name: str) -> float:
        """Return the speed [m/s] of a free object's origin."""
        dof = self.model.joint(name).dofadr[0]
        return float(np.linalg.norm(self.data.qvel[dof : dof + 3]))

    def touching(self, name: str) -> set[int]:
        """Return the ids of the bodies that touch an object."""
        body = self.model.body(name).id
        pairs = self._geom_body[self.data.contact.geom]
        return {int(b if a == body else a) for a, b in pairs if body in (a, b)}

    def held_by(self, name: str) -> set[str]:
        """Return the arms whose fingers touch an object."""
        touching = self.touching(name)
        return {arm for arm in ARMS if self.fingers[arm] & touching}
