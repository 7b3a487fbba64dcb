"""What the oracle looks at: the simulator's ``get_info()`` in types of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Touch = tuple[int, int]
"""A body and one of its links; -1 is the body's base."""

BODY_B, LINK_B = 2, 4
"""Columns of PyBullet's contact points: the other body, its link."""


@dataclass(frozen=True, eq=False)
class Block:
    """A block.

    Attributes:
        body: number of the body.
        position: (3,) [m].
        quaternion: (4,) x y z w.
        speed: (6,) linear [m/s] and angular [rad/s].
        touches: what it is in contact with.
    """

    body: int
    position: Array
    quaternion: Array
    speed: Array
    touches: frozenset[Touch]

    @property
    def bodies(self) -> frozenset[int]:
        """Return the bodies it is in contact with."""
        return frozenset(body for body, _ in self.touches)


@dataclass(frozen=True, eq=False)
class World:
    """One moment.

    Attributes:
        robot: number of the robot's body.
        robot_touches: bodies that the robot is in contact with.
        blocks: ``block_red``, ``block_blue``, ``block_pink`` -> block.
        doors: joint -> position [m].
        lights: ``lightbulb``, ``led`` -> 0 or 1.
        table: number of the table's body.
        links: link of the table -> its number.
    """

    robot: int
    robot_touches: frozenset[int]
    blocks: Mapping[str, Block]
    doors: Mapping[str, float]
    lights: Mapping[str, int]
    table: int
    links: Mapping[str, int]

    @classmethod
    def read(cls, info: Mapping[str, Any]) -> Self:
        """Return what ``PlayTableSimEnv.get_info()`` says."""
        robot, scene = info["robot_info"], info["scene_info"]
        table = scene["fixed_objects"]["table"]
        return cls(
            robot=robot["uid"],
            robot_touches=frozenset(body for body, _ in _touches(robot["contacts"])),
            blocks={name: _block(block) for name, block in scene["movable_objects"].items()},
            doors={name: door["current_state"] for name, door in scene["doors"].items()},
            lights={name: light["logical_state"] for name, light in scene["lights"].items()},
            table=table["uid"],
            links=table["links"],
        )

    def surface(self, link: str) -> Touch:
        """Return a link of the table, as contacts name it."""
        return self.table, self.links[link]


def _block(content: Mapping[str, Any]) -> Block:
    return Block(
        body=content["uid"],
        position=np.asarray(content["current_pos"], dtype=np.float64),
        quaternion=np.asarray(content["current_orn"], dtype=np.float64),
        speed=np.array([*content["current_lin_vel"], *content["current_ang_vel"]]),
        touches=_touches(content["contacts"]),
    )


def _touches(contacts: Any) -> frozenset[Touch]:
    return frozenset((contact[BODY_B], contact[LINK_B]) for contact in contacts)
