"""Whether a task was done between two moments, by CALVIN's official rules and thresholds.

Source: github.com/mees/calvin_env, ``envs/tasks.py``; arguments: github.com/mees/calvin,
``conf/callbacks/rollout/tasks/new_playtable_tasks.yaml``. "Right" is the robot's +x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from dfm_vla_ros.benchmarks import Array
from dfm_vla_ros.benchmarks.calvin.tasks import COLOURS

Touch = tuple[int, int]
"""A body and one of its links; -1 is the body's base."""

BODY_B, LINK_B = 2, 4
"""Columns of PyBullet's contact points: the other body, its link."""


class Block:
    """A block of ``get_info()``.

    Attributes:
        body: number of the body.
        position: (3,) [m].
        quaternion: (4,) x y z w.
        speed: (6,) linear [m/s] and angular [rad/s].
        touches: what it is in contact with.
        bodies: the bodies of that.
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
        robot: number of the robot's body.
        robot_touches: bodies that the robot is in contact with.
        blocks: ``block_red``, ``block_blue``, ``block_pink`` -> block.
        block_bodies: numbers of their bodies.
        doors: joint -> position [m].
        lights: ``lightbulb``, ``led`` -> 0 or 1.
        surfaces: ``table``, ``slider``, ``drawer`` -> link of the table, as contacts name it.
    """

    def __init__(self, info: Mapping[str, Any]) -> None:
        robot, scene = info["robot_info"], info["scene_info"]
        table = scene["fixed_objects"]["table"]
        self.robot: int = robot["uid"]
        self.robot_touches = frozenset(body for body, _ in _touches(robot["contacts"]))
        self.blocks = {name: Block(block) for name, block in scene["movable_objects"].items()}
        self.block_bodies = frozenset(block.body for block in self.blocks.values())
        self.doors = {name: door["current_state"] for name, door in scene["doors"].items()}
        self.lights = {name: light["logical_state"] for name, light in scene["lights"].items()}
        self.surfaces = {
            place: (table["uid"], table["links"][link]) for place, link in LINKS.items()
        }


def _touches(contacts: Any) -> frozenset[Touch]:
    return frozenset((contact[BODY_B], contact[LINK_B]) for contact in contacts)


Check = Callable[[World, World], bool]
"""From the moments when the task was asked for and now to whether it is done."""

TURNED_DEG, TILTED_DEG, SHIFTED_M = 60.0, 30.0, 0.1
PUSHED_M = 0.1
LIFTED_M = {"table": 0.05, "slider": 0.03, "drawer": 0.05}
LINKS = {"table": "base_link", "slider": "plank_link", "drawer": "drawer_link"}
SLID_M, PULLED_M = 0.15, 0.12
AT_REST = 1.0
"""Bound of each component of a stacked block's speed [m/s, rad/s]."""


def turn_deg(start: Array, now: Array) -> Array:
    """Return the turn between two quaternions (x, y, z, w) as Euler angles about fixed x, y, z."""
    x, y, z, w = _product(now, start * [-1, -1, -1, 1])
    length = x * x + y * y + z * z + w * w
    down = float(np.clip(2 * (w * y - x * z) / length, -1, 1))
    roll = math.atan2(2 * (w * x + y * z), length - 2 * (x * x + y * y))
    yaw = math.atan2(2 * (w * z + x * y), length - 2 * (y * y + z * z))
    return np.degrees([roll, math.asin(down), yaw])


def _product(p: Array, q: Array) -> Array:
    """Return the quaternion of the turn ``q`` and then ``p``."""
    vector = p[3] * q[:3] + q[3] * p[:3] + np.cross(p[:3], q[:3])
    return np.append(vector, p[3] * q[3] - p[:3] @ q[:3])


def _rotate(name: str, sign: int) -> Check:
    """Turned on the spot, clockwise (-1) or the other way (1), and resting on something."""

    def check(start: World, now: World) -> bool:
        before, after = start.blocks[name], now.blocks[name]
        if np.linalg.norm(after.position - before.position) > SHIFTED_M:
            return False
        x, y, z = turn_deg(before.quaternion, after.quaternion)
        upright = abs(x) < TILTED_DEG and abs(y) < TILTED_DEG
        return bool(after.bodies - {start.robot}) and upright and TURNED_DEG < sign * z < 180

    return check


def _push(name: str, sign: int) -> Check:
    """Moved along x, still on all that it lay on."""

    def check(start: World, now: World) -> bool:
        before, after = start.blocks[name], now.blocks[name]
        lay = {touch for touch in before.touches if touch[0] != start.robot}
        lies = {touch for touch in after.touches if touch[0] != start.robot}
        moved = sign * (after.position[0] - before.position[0])
        return bool(lay) and lay <= lies and bool(moved > PUSHED_M)

    return check


def _door(joint: str, metres: float) -> Check:
    def check(start: World, now: World) -> bool:
        moved = now.doors[joint] - start.doors[joint]
        return moved > metres if metres > 0 else moved < metres

    return check


def _lift(name: str, place: str) -> Check:
    """Lifted from ``place``, touching the robot and nothing else."""

    def check(start: World, now: World) -> bool:
        before, after = start.blocks[name], now.blocks[name]
        lifted = after.position[2] - before.position[2] > LIFTED_M[place]
        lay = start.surfaces[place] in before.touches
        return bool(lifted and lay and after.bodies == {start.robot})

    return check


def _place(place: str) -> Check:
    """The held block let go of, on ``place``."""

    def check(start: World, now: World) -> bool:
        for name, block in start.blocks.items():
            if start.robot_touches == {block.body} and block.bodies == {start.robot}:
                let_go = block.body not in now.robot_touches
                return let_go and now.surfaces[place] in now.blocks[name].touches
        return False

    return check


def _push_into_drawer(start: World, now: World) -> bool:
    """Any block that lay on the table alone now touches the drawer.

    The robot may still touch it: the official rule means to forbid that, but compares the robot's
    number with pairs of body and link, which are never equal. Its verdicts are kept.
    """
    table, drawer = start.surfaces["table"], now.surfaces["drawer"]
    return any(
        block.touches == {table} and drawer in now.blocks[name].touches
        for name, block in start.blocks.items()
    )


def _stack(start: World, now: World) -> bool:
    """Any block that touched no other now touches others alone and is at rest."""
    return any(
        not block.bodies & start.block_bodies and _is_stacked(now.blocks[name], now)
        for name, block in start.blocks.items()
    )


def _unstack(start: World, now: World) -> bool:
    """Any block that touched others alone, at rest, now touches none."""
    return any(
        _is_stacked(block, start) and not now.blocks[name].bodies & now.block_bodies
        for name, block in start.blocks.items()
    )


def _is_stacked(block: Block, world: World) -> bool:
    """Return whether a block touches other blocks alone and is at rest."""
    at_rest = bool(np.all(np.abs(block.speed) < AT_REST))
    return bool(block.bodies) and block.bodies <= world.block_bodies and at_rest


def _light(light: str, value: int) -> Check:
    def check(start: World, now: World) -> bool:
        return start.lights[light] == 1 - value and now.lights[light] == value

    return check


def _of_blocks() -> Iterator[tuple[str, Check]]:
    for colour in COLOURS:
        name, block = f"block_{colour}", f"{colour}_block"
        for side, sign in (("right", 1), ("left", -1)):
            yield f"rotate_{block}_{side}", _rotate(name, -sign)
            yield f"push_{block}_{side}", _push(name, sign)
        for place in LINKS:
            yield f"lift_{block}_{place}", _lift(name, place)


CHECKS: dict[str, Check] = {
    **dict(_of_blocks()),
    "move_slider_left": _door("base__slide", SLID_M),
    "move_slider_right": _door("base__slide", -SLID_M),
    "open_drawer": _door("base__drawer", PULLED_M),
    "close_drawer": _door("base__drawer", -PULLED_M),
    "place_in_slider": _place("slider"),
    "place_in_drawer": _place("drawer"),
    "push_into_drawer": _push_into_drawer,
    "stack_block": _stack,
    "unstack_block": _unstack,
    **{
        f"turn_{word}_{light}": _light(light, value)
        for light in ("lightbulb", "led")
        for word, value in (("on", 1), ("off", 0))
    },
}
