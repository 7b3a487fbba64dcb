"""The MuJoCo model of the robot at its table, built from the URDF that ROS uses."""

from __future__ import annotations

import mujoco
import numpy as np

from dfm_vla_ros.robot.description import robot_description
from dfm_vla_ros.robot.joints import ARMS, CAMERAS, arm_joints
from dfm_vla_ros.sim.objects import add_objects
from dfm_vla_ros.sim.textures import add_textures

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
