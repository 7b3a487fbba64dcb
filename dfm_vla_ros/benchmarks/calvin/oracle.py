"""Whether a task was done between two moments, by CALVIN's official rules and thresholds.

Source: github.com/mees/calvin_env, ``envs/tasks.py``; arguments: github.com/mees/calvin,
``conf/callbacks/rollout/tasks/new_playtable_tasks.yaml``. "Right" is the robot's +x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from dfm_vla_ros.benchmarks import Array
from dfm_vla_ros.benchmarks.calvin.tasks import COLOURS

Touch = tuple[int, int]
"""A body and one of its links; -1 is the body's base."""
BODY_B, LINK_B = 2, 4
"""Columns of PyBullet's contact points: the other body, its link."""
TURNED_DEG, TILTED_DEG, SHIFTED_M, PUSHED_M = 60.0, 30.0, 0.1, 0.1
LIFTED_M = {"table": 0.05, "slider": 0.03, "drawer": 0.05}
LINKS = {"table": "base_link", "slider": "plank_link", "drawer": "drawer_link"}
SLID_M, PULLED_M = 0.15, 0.12
AT_REST = 1.0
"""Bound of each component of a stacked block's speed [m/s, rad/s]."""


class TableBlock:
    """A block, as ``get_info()`` tells it; what it ``touches``, and the ``bodies`` of that.

    The quaternion is x y z w, the speed (6,) linear [m/s] and angular [rad/s].
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.body: int = content["uid"]
        self.position = np.asarray(content["current_pos"], dtype=np.float64)
        self.quaternion = np.asarray(content["current_orn"], dtype=np.float64)
        self.speed = np.array([*content["current_lin_vel"], *content["current_ang_vel"]])
        self.touches = _touches(content["contacts"])
        self.bodies = frozenset(body for body, _ in self.touches)


class World:
    """One moment, as ``PlayTableSimEnv.get_info()`` tells it.

    Attributes:
        robot, robot_touches: number of the robot's body, those of the bodies that it touches.
        blocks, block_bodies: ``block_red``, ... -> block, and the numbers of their bodies.
        doors: joint -> position [m].
        lights: ``lightbulb``, ``led`` -> 0 or 1.
        surfaces: ``table``, ``slider``, ``drawer`` -> link of the table, as contacts name it.
    """

    def __init__(self, info: Mapping[str, Any]) -> None:
        robot, scene = info["robot_info"], info["scene_info"]
        table = scene["fixed_objects"]["table"]
        self.robot: int = robot["uid"]
        self.robot_touches = frozenset(body for body, _ in _touches(robot["contacts"]))
        self.blocks = {name: TableBlock(block) for name, block in scene["movable_objects"].items()}
        self.block_bodies = frozenset(block.body for block in self.blocks.values())
        self.doors = {name: door["current_state"] for name, door in scene["doors"].items()}
        self.lights = {name: light["logical_state"] for name, light in scene["lights"].items()}
        self.surfaces = {
            place: (table["uid"], table["links"][link]) for place, link in LINKS.items()
        }


def _touches(contacts: Any) -> frozenset[Touch]:
    return frozenset((contact[BODY_B], contact[LINK_B]) for contact in contacts)


def turn_deg(start: Array, now: Array) -> Array:
    """Return the turn between two quaternions (x, y, z, w) as Euler angles about fixed x, y, z."""
    q = start * [-1, -1, -1, 1]
    vector = now[3] * q[:3] + q[3] * now[:3] + np.cross(now[:3], q[:3])
    x, y, z, w = np.append(vector, now[3] * q[3] - now[:3] @ q[:3])
    length = x * x + y * y + z * z + w * w
    down = float(np.clip(2 * (w * y - x * z) / length, -1, 1))
    roll = math.atan2(2 * (w * x + y * z), length - 2 * (x * x + y * y))
    yaw = math.atan2(2 * (w * z + x * y), length - 2 * (y * y + z * z))
    return np.degrees([roll, math.asin(down), yaw])


def _rotated(name: str, sign: int, start: World, now: World) -> bool:
    """Turned on the spot, clockwise (-1) or the other way (1), and resting on something."""
    before, after = start.blocks[name], now.blocks[name]
    if np.linalg.norm(after.position - before.position) > SHIFTED_M:
        return False
    x, y, z = turn_deg(before.quaternion, after.quaternion)
    upright = abs(x) < TILTED_DEG and abs(y) < TILTED_DEG
    return bool(after.bodies - {start.robot}) and upright and TURNED_DEG < sign * z < 180


def _pushed(name: str, sign: int, start: World, now: World) -> bool:
    """Moved along x, still on all that it lay on."""
    before, after = start.blocks[name], now.blocks[name]
    lay = {touch for touch in before.touches if touch[0] != start.robot}
    moved = sign * (after.position[0] - before.position[0])
    return bool(lay) and lay <= after.touches and bool(moved > PUSHED_M)


def _moved(joint: str, metres: float, start: World, now: World) -> bool:
    moved = now.doors[joint] - start.doors[joint]
    return moved > metres if metres > 0 else moved < metres


def _lifted(name: str, place: str, start: World, now: World) -> bool:
    """Lifted from ``place``, touching the robot and nothing else."""
    before, after = start.blocks[name], now.blocks[name]
    lifted = after.position[2] - before.position[2] > LIFTED_M[place]
    lay = start.surfaces[place] in before.touches
    return bool(lifted and lay and after.bodies == {start.robot})


def _placed(place: str, start: World, now: World) -> bool:
    """The held block let go of, on ``place``."""
    for name, block in start.blocks.items():
        if start.robot_touches == {block.body} and block.bodies == {start.robot}:
            let_go = block.body not in now.robot_touches
            return let_go and now.surfaces[place] in now.blocks[name].touches
    return False


def _pushed_into_drawer(start: World, now: World) -> bool:
    """Any block that lay on the table alone now touches the drawer.

    The robot may still touch it: the official rule means to forbid that, but compares the robot's
    number with pairs of body and link, which are never equal. Its verdicts are kept.
    """
    table, drawer = start.surfaces["table"], now.surfaces["drawer"]
    return any(
        block.touches == {table} and drawer in now.blocks[name].touches
        for name, block in start.blocks.items()
    )


def _stacked(start: World, now: World) -> bool:
    """Any block that touched no other now touches others alone and is at rest."""
    return any(
        not block.bodies & start.block_bodies and _is_on_blocks(now.blocks[name], now)
        for name, block in start.blocks.items()
    )


def _unstacked(start: World, now: World) -> bool:
    """Any block that touched others alone, at rest, now touches none."""
    return any(
        _is_on_blocks(block, start) and not now.blocks[name].bodies & now.block_bodies
        for name, block in start.blocks.items()
    )


def _is_on_blocks(block: TableBlock, world: World) -> bool:
    """Return whether a block touches other blocks alone and is at rest."""
    at_rest = bool(np.all(np.abs(block.speed) < AT_REST))
    return bool(block.bodies) and block.bodies <= world.block_bodies and at_rest


def _switched(light: str, value: int, start: World, now: World) -> bool:
    return start.lights[light] == 1 - value and now.lights[light] == value


CHECKS: dict[str, Callable[[World, World], bool]] = {
    **{
        f"{verb}_{colour}_block_{side}": partial(check, f"block_{colour}", sign)
        for colour in COLOURS
        for verb, check, signs in (("rotate", _rotated, (-1, 1)), ("push", _pushed, (1, -1)))
        for side, sign in zip(("right", "left"), signs, strict=True)
    },
    **{
        f"lift_{colour}_block_{place}": partial(_lifted, f"block_{colour}", place)
        for colour in COLOURS
        for place in LINKS
    },
    "move_slider_left": partial(_moved, "base__slide", SLID_M),
    "move_slider_right": partial(_moved, "base__slide", -SLID_M),
    "open_drawer": partial(_moved, "base__drawer", PULLED_M),
    "close_drawer": partial(_moved, "base__drawer", -PULLED_M),
    "place_in_slider": partial(_placed, "slider"),
    "place_in_drawer": partial(_placed, "drawer"),
    "push_into_drawer": _pushed_into_drawer,
    "stack_block": _stacked,
    "unstack_block": _unstacked,
    **{
        f"turn_{word}_{light}": partial(_switched, light, value)
        for light in ("lightbulb", "led")
        for word, value in (("on", 1), ("off", 0))
    },
}
"""Task -> whether it is done between the moment when it was asked for and now."""
