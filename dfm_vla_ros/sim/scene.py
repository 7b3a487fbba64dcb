"""State of the twin's world by name: joints, objects, contacts, and how it looks."""

from __future__ import annotations

import colorsys

import mujoco
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.joints import ARMS, CAMERAS, JOINT_NAMES
from dfm_vla_ros.sim.model import FIXED_OBJECTS, FREE_OBJECTS, POSE_PARTS, TEXTURES, build_model
from dfm_vla_ros.sim.variation import Variation

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


Range = tuple[float, float]

_ARRAYS = (
    "light_dir", "light_diffuse", "geom_rgba", "geom_matid",
    "cam_pos", "cam_quat", "cam_fovy", "body_pos", "body_quat",
)  # fmt: skip
_HEADLIGHT = ("ambient", "diffuse")

HUES: dict[str, tuple[Range, Range, Range]] = {
    "block": ((-0.035, 0.02), (0.70, 1.0), (0.60, 1.0)),
    "plate": ((0.56, 0.66), (0.55, 0.95), (0.50, 0.95)),
    "stand": ((0.0, 1.0), (0.0, 0.15), (0.25, 0.65)),
    "pot": ((0.45, 0.60), (0.15, 0.60), (0.30, 0.70)),
    "handle": ((0.11, 0.17), (0.70, 1.0), (0.70, 1.0)),
    "carrot": ((0.045, 0.095), (0.80, 1.0), (0.75, 1.0)),
    "cucumber": ((0.27, 0.38), (0.50, 0.90), (0.35, 0.70)),
    "table": ((0.0, 1.0), (0.0, 0.30), (0.35, 0.80)),
    "floor": ((0.0, 1.0), (0.0, 0.30), (0.15, 0.50)),
}
"""Hue, saturation and value of each part: an object keeps its colour's name, the table is pale."""

_TILT_RAD = (0.1, 0.8)
"""Of a light from straight above."""
_TINT = (0.85, 1.0)


class Appearance:
    """Sets what the renderer shows beside the poses, and takes it back."""

    def __init__(self, model: mujoco.MjModel) -> None:
        """Remember how ``model`` looks now."""
        self._model = model
        self._arrays = {name: getattr(model, name).copy() for name in _ARRAYS}
        light = model.vis.headlight
        self._headlight = {name: getattr(light, name).copy() for name in _HEADLIGHT}
        self._parts = {geom: _part(model, geom) for geom in range(model.ngeom)}

    def restore(self) -> None:
        """Look as at the beginning."""
        for name, values in self._arrays.items():
            getattr(self._model, name)[:] = values
        for name, values in self._headlight.items():
            getattr(self._model.vis.headlight, name)[:] = values

    def vary(self, rng: np.random.Generator, variation: Variation) -> None:
        """Draw what ``variation`` varies."""
        if variation.light:
            self._light(rng)
        if variation.colours:
            self._colours(rng)
        if variation.textures:
            self._textures(rng)
        if variation.camera_m or variation.camera_rad or variation.zoom_deg:
            for camera in CAMERAS:
                offset = rng.uniform(-variation.camera_m, variation.camera_m, 3)
                turn = rng.uniform(-variation.camera_rad, variation.camera_rad, 3)
                zoom = rng.uniform(-variation.zoom_deg, variation.zoom_deg)
                self.move_camera(camera, offset, turn, zoom)

    def move_camera(self, name: str, offset_m: Array, turn_rad: Array, zoom_deg: float) -> None:
        """Move a camera in its own frame by (3,) [m], a rotation vector (3,) [rad] and a zoom.

        Its housing stays, so it would be seen by a camera that moves farther than it is long.
        """
        camera = self._model.camera(name)
        camera.pos[:] += offset_m
        camera.quat[:] = _turned(camera.quat, turn_rad)
        camera.fovy[:] += zoom_deg

    def move_third_camera(self, offset_m: Array, turn_rad: Array) -> None:
        """Move the third camera with its housing by (3,) [m] and a rotation vector (3,) [rad]."""
        body = self._model.body("third_camera_link")
        body.pos[:] += offset_m
        body.quat[:] = _turned(body.quat, turn_rad)

    def light(self, index: int, direction: Array, diffuse: Array) -> None:
        """Set where a light shines to (3,), and its colour (3,)."""
        self._model.light_dir[index] = direction / np.linalg.norm(direction)
        self._model.light_diffuse[index] = diffuse

    def headlight(self, ambient: float, diffuse: float) -> None:
        """Set the light from everywhere and that from the camera, 0 to 1."""
        self._model.vis.headlight.ambient[:] = ambient
        self._model.vis.headlight.diffuse[:] = diffuse

    def _light(self, rng: np.random.Generator) -> None:
        self.headlight(rng.uniform(0.20, 0.42), rng.uniform(0.10, 0.30))
        for index in range(self._model.nlight):
            azimuth, tilt = rng.uniform(-np.pi, np.pi), rng.uniform(*_TILT_RAD)
            direction = np.array(
                [np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), -np.cos(tilt)]
            )
            self.light(index, direction, rng.uniform(0.20, 0.45) * rng.uniform(*_TINT, 3))

    def _colours(self, rng: np.random.Generator) -> None:
        drawn = {part: _colour(rng, part) for part in HUES}
        for geom, part in self._parts.items():
            if part:
                self._model.geom_rgba[geom, :3] = drawn[part]

    def _textures(self, rng: np.random.Generator) -> None:
        """Half of the tables, blocks and plates have one."""
        for part in ("table", "block", "plate"):
            name = str(rng.choice(TEXTURES))
            if rng.uniform() < 0.5:
                continue
            for geom in (geom for geom, found in self._parts.items() if found == part):
                self._model.geom_matid[geom] = self._model.material(name).id


def _part(model: mujoco.MjModel, geom: int) -> str:
    """Return the key in :data:`HUES` of a geom, or nothing for the robot's."""
    name = model.geom(geom).name
    body = int(model.geom_bodyid[geom])
    if name in HUES:
        return name
    part = model.body(body).name
    last = geom - int(model.body_geomadr[body]) - int(model.body_geomnum[body])
    if part == "plate" and last == -1:
        return "stand"
    if part == "pot" and last >= -2:
        return "handle"
    return part if part in HUES else ""


def _turned(quaternion: Array, turn_rad: Array) -> Array:
    """Return ``quaternion`` (4,) after a turn by the rotation vector (3,) in its own frame."""
    change, turned = np.zeros(4), np.zeros(4)
    angle = float(np.linalg.norm(turn_rad))
    mujoco.mju_axisAngle2Quat(change, turn_rad / max(angle, 1e-12), angle)
    mujoco.mju_mulQuat(turned, quaternion, change)
    return turned


def _colour(rng: np.random.Generator, part: str) -> tuple[float, float, float]:
    hue, saturation, value = (float(rng.uniform(*span)) for span in HUES[part])
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
