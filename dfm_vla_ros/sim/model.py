"""The MuJoCo model of the robot at its table, built from the URDF that ROS uses."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.joints import ARMS, CAMERAS, arm_joints
from dfm_vla_ros.robot.model import robot_description

SIDE_PX = 64
LARGEST_PITCH = 8


def add_textures(spec: mujoco.MjSpec) -> None:
    """Add each texture and a material of the same name that shows it."""
    for name, pixels in _textures().items():
        kind = mujoco.mjtTexture.mjTEXTURE_2D
        texture = spec.add_texture(name=name, type=kind, width=SIDE_PX, height=SIDE_PX, nchannel=3)
        texture.data = np.repeat(pixels[..., None], 3, axis=-1).astype(np.uint8).tobytes()
        material = spec.add_material(name=name, texrepeat=(2, 2))
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _textures() -> dict[str, NDArray[np.uint8]]:
    """Return grey (H, W) patterns, which a geom's own colour tints."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    speckles = rng.uniform(150, 255, (SIDE_PX, SIDE_PX))
    squares = np.where((rows // LARGEST_PITCH + columns // LARGEST_PITCH) % 2, 255.0, 175.0)
    grain = 215 + 40 * np.sin(columns * 0.8 + 2 * np.sin(rows * 0.1))
    cloud = rng.uniform(140, 255, (LARGEST_PITCH, LARGEST_PITCH))
    clouds = np.kron(cloud, np.ones((SIDE_PX // LARGEST_PITCH,) * 2))
    return {"speckles": speckles, "squares": squares, "grain": grain, "clouds": clouds}


TEXTURES: tuple[str, ...] = tuple(_textures())
"""Names."""


BLOCK_SIDE_M = 0.04
PLATE_RADIUS_M = 0.075
PLATE_THICKNESS_M = 0.012
POT_RADIUS_M = 0.075
POT_HEIGHT_M = 0.07
POT_WALL_M = 0.006
HANDLE_REACH_M = 0.125
"""Distance from the pot's axis at which a handle is taken."""
HANDLE_HEIGHT_M = 0.055
HANDLE_SIZE_M = (0.022, 0.064, 0.014)
"""Between the fingers, outwards, upwards."""
VEGETABLE_LENGTH_M = 0.09
VEGETABLE_RADIUS_M = 0.015

VEGETABLES: tuple[str, ...] = ("carrot", "cucumber")
FREE_OBJECTS: tuple[str, ...] = ("block", "pot", *VEGETABLES)
FIXED_OBJECTS: tuple[str, ...] = ("plate",)
OBJECTS: tuple[str, ...] = FREE_OBJECTS + FIXED_OBJECTS

# Cosine and sine, not the angle: it would jump by a whole turn between neighbouring poses.
POSE_PARTS: tuple[str, ...] = ("x", "y", "z", "cos_yaw", "sin_yaw")
POSE_NAMES: tuple[str, ...] = tuple(f"{name}.{part}" for name in OBJECTS for part in POSE_PARTS)
"""What a vector of object poses holds, the same for every task."""

_BOX, _CYLINDER = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
_CAPSULE = mujoco.mjtGeom.mjGEOM_CAPSULE
_RED, _BLUE, _GREY = (0.85, 0.10, 0.10, 1), (0.15, 0.35, 0.80, 1), (0.45, 0.47, 0.50, 1)
_STEEL, _HANDLE = (0.30, 0.45, 0.52, 1), (0.95, 0.80, 0.10, 1)
_ORANGE, _GREEN = (0.95, 0.45, 0.05, 1), (0.15, 0.55, 0.15, 1)


def add_objects(
    spec: mujoco.MjSpec, friction: tuple[float, ...], contype: int, conaffinity: int
) -> None:
    """Add every object; the free ones have a free joint, the plate is a mocap body."""
    _add_block(_free_body(spec, "block"))
    _add_plate(spec.worldbody.add_body(name="plate", mocap=True))
    _add_pot(_free_body(spec, "pot"))
    _add_vegetable(_free_body(spec, "carrot"), _ORANGE)
    _add_vegetable(_free_body(spec, "cucumber"), _GREEN)
    for name in FREE_OBJECTS + FIXED_OBJECTS:
        for geom in spec.body(name).geoms:
            geom.contype, geom.conaffinity = contype, conaffinity
            geom.friction = friction
            # Rolling friction, or a vegetable would roll away from the first finger that touches.
            geom.condim = 6 if name in VEGETABLES else 4


def _free_body(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    body = spec.worldbody.add_body(name=name)
    body.add_freejoint(name=name)
    return body


def _add_block(body: mujoco.MjsBody) -> None:
    body.add_geom(type=_BOX, size=[BLOCK_SIDE_M / 2] * 3, rgba=_RED, mass=0.05)


def _add_plate(body: mujoco.MjsBody) -> None:
    """A disc whose top is the body's origin, on a stand long enough for every height."""
    half = PLATE_THICKNESS_M / 2
    body.add_geom(type=_CYLINDER, size=[PLATE_RADIUS_M, half, 0], pos=[0, 0, -half], rgba=_BLUE)
    body.add_geom(type=_CYLINDER, size=[0.045, 0.09, 0], pos=[0, 0, -0.10], rgba=_GREY)


def _add_pot(body: mujoco.MjsBody) -> None:
    """An open pot: a floor, eight walls and two handles along +-y; origin under the floor."""
    floor = POT_WALL_M / 2
    body.add_geom(
        type=_CYLINDER, size=[POT_RADIUS_M, floor, 0], pos=[0, 0, floor], rgba=_STEEL, mass=0.12
    )
    half_width = POT_RADIUS_M * np.tan(np.pi / 8) + POT_WALL_M / 4
    # The walls end above the table: the floor alone stands on it, which saves 32 contacts.
    middle = POT_HEIGHT_M / 2 + POT_WALL_M / 4
    for angle in np.arange(8) * np.pi / 4:
        body.add_geom(
            type=_BOX,
            size=[POT_WALL_M / 2, half_width, POT_HEIGHT_M - middle],
            pos=[POT_RADIUS_M * np.cos(angle), POT_RADIUS_M * np.sin(angle), middle],
            quat=[np.cos(angle / 2), 0, 0, np.sin(angle / 2)],
            rgba=_STEEL,
            mass=0.015,
        )
    for side in (-1, 1):
        body.add_geom(
            type=_BOX,
            size=[size / 2 for size in HANDLE_SIZE_M],
            pos=[0, side * (HANDLE_REACH_M - 0.015), HANDLE_HEIGHT_M],
            rgba=_HANDLE,
            mass=0.02,
        )


def _add_vegetable(body: mujoco.MjsBody, colour: tuple[float, ...]) -> None:
    """A capsule along x."""
    half = VEGETABLE_LENGTH_M / 2 - VEGETABLE_RADIUS_M
    along_x = [np.sqrt(0.5), 0, np.sqrt(0.5), 0]
    body.add_geom(
        type=_CAPSULE, size=[VEGETABLE_RADIUS_M, half, 0], quat=along_x, rgba=colour, mass=0.04
    )


TIMESTEP_S = 0.005

FRICTION = (1.0, 0.02, 0.001)
"""Sliding, torsional [m] and rolling [m] friction of everything that can be touched."""

# Bits of contype and conaffinity: an arm meets the world and the other arm, never itself.
WORLD_BIT, ARM_BITS = 1, {"left": 2, "right": 4}
HIDDEN_GROUP = 3

FIELD_OF_VIEW_DEG = {"third": 52.0, "left_wrist": 78.0, "right_wrist": 78.0}

ARM_STIFFNESS = 900.0
"""Position gain of the six arm joints [N m/rad]."""
GRIPPER_STIFFNESS = 400.0
"""Position gain of a gripper [N/m]: 8 N on a 40 mm block commanded fully closed."""


def build_model() -> mujoco.MjModel:
    """Return the robot, the table, the cameras and the objects of all tasks."""
    spec = mujoco.MjSpec.from_string(robot_description())
    _set_options(spec)
    for arm in ARMS:
        _prepare_arm(spec, arm)
    _stiffen_mimics(spec)
    _add_cameras(spec)
    _add_surroundings(spec)
    add_textures(spec)
    add_objects(spec, FRICTION, WORLD_BIT, sum(ARM_BITS.values()) | WORLD_BIT)
    return spec.compile()


def _set_options(spec: mujoco.MjSpec) -> None:
    """Contacts that hold a pot in the air, and rendering that is fast in software."""
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10
    quality = spec.visual.quality
    quality.numslices, quality.numstacks, quality.numquads = 12, 4, 1
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    spec.visual.headlight.diffuse = [0.25, 0.25, 0.25]
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]
    # The near plane is a fraction of the extent: a wrist camera sees its finger tips.
    spec.stat.extent, spec.stat.center = 1.0, [0.3, 0.0, 0.1]
    spec.visual.map.znear = 0.01


def _prepare_arm(spec: mujoco.MjSpec, arm: str) -> None:
    """Compensate gravity, add rotor inertia, contact bits and position actuators."""
    for body in spec.bodies:
        if body.name.startswith(f"{arm}_"):
            body.gravcomp = 1
            for geom in body.geoms:
                _set_contact(geom, arm)
    *joints, gripper = arm_joints(arm)
    for name in joints:
        spec.joint(name).armature = 0.1
        actuator = _position_actuator(spec, name, ARM_STIFFNESS)
        actuator.forcelimited, actuator.forcerange = True, (-100, 100)
    for name in (gripper, f"{gripper}_mimic"):
        spec.joint(name).armature = 0.01
        spec.joint(name).damping = [2.0, 0.0, 0.0]
    actuator = _position_actuator(spec, gripper, GRIPPER_STIFFNESS)
    actuator.forcelimited, actuator.forcerange = True, (-20, 20)


def _set_contact(geom: mujoco.MjsGeom, arm: str) -> None:
    """URDF visuals (no contact bits) are drawn, URDF collision shapes touch and are hidden."""
    if geom.contype == 0 and geom.conaffinity == 0:
        return
    geom.group = HIDDEN_GROUP
    geom.contype = ARM_BITS[arm]
    geom.conaffinity = WORLD_BIT | (sum(ARM_BITS.values()) - ARM_BITS[arm])
    geom.condim = 4
    geom.friction = FRICTION


def _position_actuator(spec: mujoco.MjSpec, joint: str, stiffness: float) -> mujoco.MjsActuator:
    actuator = spec.add_actuator(
        name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT, inheritrange=1.0
    )
    actuator.set_to_position(kp=stiffness, dampratio=1.0)
    return actuator


def _stiffen_mimics(spec: mujoco.MjSpec) -> None:
    """Let the opposed finger follow within a time constant of two steps."""
    for equality in spec.equalities:
        equality.solref = (2 * TIMESTEP_S, 1.0)


def _add_cameras(spec: mujoco.MjSpec) -> None:
    """Put each camera at its optical frame; a MuJoCo camera looks along -z with y up."""
    for camera in CAMERAS:
        spec.body(f"{camera}_camera_optical_frame").add_camera(
            name=camera, quat=(0, 1, 0, 0), fovy=FIELD_OF_VIEW_DEG[camera]
        )


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    """Add the table (top at z = 0), the floor and two lights."""
    box, plane = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_PLANE
    touch = {"contype": WORLD_BIT, "conaffinity": WORLD_BIT | sum(ARM_BITS.values())}
    world = spec.worldbody
    world.add_geom(
        name="table", type=box, size=(0.40, 0.60, 0.02), pos=(0.26, 0, -0.02), condim=4,
        friction=FRICTION, rgba=(0.72, 0.66, 0.56, 1), **touch,
    )  # fmt: skip
    world.add_geom(
        name="floor", type=plane, size=(3, 3, 0.1), pos=(0, 0, -0.75), condim=4,
        friction=FRICTION, rgba=(0.30, 0.32, 0.34, 1), **touch,
    )  # fmt: skip
    for x, y in ((0.9, 0.8), (-0.3, -0.8)):
        direction = np.array([0.3 - x, -y, -1.6])
        world.add_light(
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=(x, y, 1.6), dir=direction,
            diffuse=(0.4, 0.4, 0.4), specular=(0.05, 0.05, 0.05), castshadow=False,
        )  # fmt: skip
