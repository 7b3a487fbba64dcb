"""The things on the table: block, plate on a stand, vegetables, open pot with two handles."""

from __future__ import annotations

import mujoco
import numpy as np

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
