"""The three tasks: layout, sentence, success, progress."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import UnknownTask
from dfm_vla_ros.sim.model import (
    BLOCK_SIDE_M,
    PLATE_RADIUS_M,
    POT_HEIGHT_M,
    POT_RADIUS_M,
    VEGETABLE_RADIUS_M,
    VEGETABLES,
)
from dfm_vla_ros.sim.scene import Scene
from dfm_vla_ros.sim.variation import MIDDLE_SHARES, PHRASINGS, Layout

Array = NDArray[np.float64]


class Task:
    """A layout, a sentence and a condition that must hold for ``hold_s``.

    Attributes:
        name: as in messages and file names.
        instruction: the sentence that the policy is given.
        hold_s: how long :meth:`condition` must hold without a break [s].
    """

    name: ClassVar[str]
    instruction: ClassVar[str]
    hold_s: ClassVar[float] = 0.5

    def __init__(self) -> None:
        """Start with nothing done."""
        self._since_s: float | None = None
        self.success = False
        self.progress = 0.0

    def lay_out(self, scene: Scene, rng: np.random.Generator, layout: Layout = "plain") -> None:
        """Put the task's objects on the table, as :class:`Variation` says of a layout."""
        raise NotImplementedError

    def adopt(self, scene: Scene) -> bool:
        """Judge a scene that another task laid out; False if an object of this one is missing."""
        raise NotImplementedError

    @property
    def grasped(self) -> str:
        """The object that is taken hold of."""
        raise NotImplementedError

    def condition(self, scene: Scene) -> bool:
        """Return whether the goal is met at this instant."""
        raise NotImplementedError

    def stage(self, scene: Scene) -> float:
        """Return how far the task is at this instant, in [0, 1)."""
        raise NotImplementedError

    def observe(self, scene: Scene) -> None:
        """Update ``success`` (holds, and has held for ``hold_s``) and ``progress`` (the best)."""
        now_s = scene.data.time
        if not self.condition(scene):
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        self.success = self._since_s is not None and now_s - self._since_s >= self.hold_s - 1e-9
        self.progress = 1.0 if self.success else max(self.progress, self.stage(scene))


Ranges = tuple[tuple[float, float], ...]
"""Least and largest value of each number that is drawn."""


def _ranges(rng: np.random.Generator, layout: Layout) -> str:
    """Return which ranges an episode draws from: ``plain``, ``wide`` or ``middle``."""
    if layout == "plain":
        return layout
    return "middle" if rng.uniform() < MIDDLE_SHARES[layout] else "wide"


def _draw(rng: np.random.Generator, ranges: Ranges) -> Array:
    return rng.uniform(*np.transpose(ranges))


# In the middle either arm reaches both things; their sides are opposite.
PLATE: dict[str, Ranges] = {
    "plain": ((0.24, 0.31), (-0.04, 0.04), (0.02, 0.09)),
    "wide": ((0.22, 0.32), (-0.07, 0.07), (0.013, 0.10)),
    "middle": ((0.21, 0.27), (0.07, 0.09), (0.013, 0.05)),
}
"""x, y and height of the plate's top [m]."""
BLOCK: dict[str, Ranges] = {
    "plain": ((0.25, 0.42), (0.14, 0.34)),
    "wide": ((0.22, 0.43), (0.12, 0.37)),
    "middle": ((0.21, 0.29), (0.08, 0.11)),
}
"""x, y on the left [m]."""
BLOCK_YAW_RAD, WIDE_BLOCK_YAW_RAD = (-0.7, 0.7), (-np.pi / 4, np.pi / 4)
CLEARANCE_M = 0.17
"""Least distance of the block from the plate's centre: room for the gripper beside the plate."""


class PlaceBlock(Task):
    """Success: the block rests on the plate, let go, for half a second."""

    name: ClassVar[str] = "place_block"
    instruction: ClassVar[str] = PHRASINGS["place_block"].standard
    grasped = "block"

    def lay_out(self, scene: Scene, rng: np.random.Generator, layout: Layout = "plain") -> None:
        """Draw the plate's place and height, the block's side, place and yaw."""
        ranges = _ranges(rng, layout)
        plate = _draw(rng, PLATE[ranges])
        side = rng.choice([-1.0, 1.0])
        if ranges == "middle":
            plate[1] *= -side
        while True:
            block = _draw(rng, BLOCK[ranges]) * (1.0, side)
            if ranges == "middle" or np.linalg.norm(block - plate[:2]) > CLEARANCE_M:
                break
        yaw = rng.uniform(*(BLOCK_YAW_RAD if layout == "plain" else WIDE_BLOCK_YAW_RAD))
        scene.place("plate", plate)
        scene.place("block", np.array([*block, BLOCK_SIDE_M / 2]), yaw)

    def adopt(self, scene: Scene) -> bool:
        """Whether there are a block and a plate."""
        return scene.on_table("block") and scene.on_table("plate")

    def condition(self, scene: Scene) -> bool:
        """The block touches the plate, no finger touches it, and it is on top and at rest."""
        if not self._over_plate(scene, 0.01) or scene.held_by("block"):
            return False
        on_plate = scene.model.body("plate").id in scene.touching("block")
        return on_plate and scene.object_speed("block") < 0.05

    def stage(self, scene: Scene) -> float:
        """0.3 once lifted, 0.6 over the plate, 0.8 on it."""
        if self._over_plate(scene, 0.01):
            return 0.8
        if self._over_plate(scene, np.inf):
            return 0.6
        return 0.3 if scene.object_position("block")[2] > BLOCK_SIDE_M / 2 + 0.03 else 0.0

    def _over_plate(self, scene: Scene, height_m: float) -> bool:
        """Whether the block's centre is over the plate, its underside within ``height_m``."""
        offset = scene.object_position("block") - scene.object_position("plate")
        inside = np.hypot(offset[0], offset[1]) < PLATE_RADIUS_M - 0.01
        return bool(inside and -0.005 < offset[2] - BLOCK_SIDE_M / 2 < height_m)


POT: dict[str, Ranges] = {
    "plain": ((0.25, 0.31), (-0.03, 0.03), (-0.4, 0.4)),
    "wide": ((0.23, 0.33), (-0.05, 0.05), (-0.7, 0.7)),
    "middle": ((0.23, 0.27), (0.08, 0.10), (-0.5, 0.5)),
}
"""x, y [m] and yaw [rad]; in the middle from a quarter turn, handles to front and back."""
VEGETABLE: dict[str, Ranges] = {
    "plain": ((0.26, 0.40), (0.20, 0.34), (-0.6, 0.6)),
    "wide": ((0.23, 0.41), (0.20, 0.37), (-0.8, 0.8)),
    "middle": ((0.21, 0.28), (0.10, 0.12), (-0.5, 0.5)),
}
"""x, y on the left [m] and yaw [rad]."""
LARGEST_LEAN_RAD = np.radians(15)


class PlaceVeg(Task):
    """Success: the vegetable lies in the upright pot, let go, for half a second."""

    name: ClassVar[str] = "place_veg"
    instruction: ClassVar[str] = PHRASINGS["place_veg"].standard

    @property
    def grasped(self) -> str:
        """The vegetable."""
        return self.vegetable

    def lay_out(self, scene: Scene, rng: np.random.Generator, layout: Layout = "plain") -> None:
        """Draw the pot's pose, and the vegetable's kind, side and pose."""
        ranges = _ranges(rng, layout)
        pot = _draw(rng, POT[ranges])
        self.vegetable = str(rng.choice(VEGETABLES))
        x, y, yaw = _draw(rng, VEGETABLE[ranges])
        side = rng.choice([-1.0, 1.0])
        if ranges == "middle":
            pot += 0.0, -(1 + side) * pot[1], np.pi / 2
        scene.place("pot", np.array([pot[0], pot[1], 0.0]), pot[2])
        scene.place(self.vegetable, np.array([x, side * y, VEGETABLE_RADIUS_M]), yaw)

    def adopt(self, scene: Scene) -> bool:
        """Whether there are a pot and a vegetable."""
        found = [name for name in VEGETABLES if scene.on_table(name)]
        if not found or not scene.on_table("pot"):
            return False
        self.vegetable = found[0]
        return True

    def condition(self, scene: Scene) -> bool:
        """The vegetable is inside the walls, no finger touches it, and the pot stands."""
        inside = self._over_pot(scene, 0.0, POT_HEIGHT_M - VEGETABLE_RADIUS_M)
        if not inside or scene.held_by(self.vegetable):
            return False
        return scene.lean("pot") < LARGEST_LEAN_RAD and scene.object_speed(self.vegetable) < 0.05

    def stage(self, scene: Scene) -> float:
        """0.3 once lifted, 0.6 over the pot, 0.8 inside it."""
        if self._over_pot(scene, 0.0, POT_HEIGHT_M):
            return 0.8
        if self._over_pot(scene, 0.0, np.inf):
            return 0.6
        return 0.3 if scene.object_position(self.vegetable)[2] > 0.05 else 0.0

    def _over_pot(self, scene: Scene, low_m: float, high_m: float) -> bool:
        """Whether the vegetable's middle is over the pot, between two heights above its foot."""
        offset = scene.object_position(self.vegetable) - scene.object_position("pot")
        inside = np.hypot(offset[0], offset[1]) < POT_RADIUS_M - VEGETABLE_RADIUS_M
        return bool(inside and low_m < offset[2] < high_m)


LIFTED_POT: dict[str, Ranges] = {
    "plain": ((0.26, 0.34), (-0.04, 0.04), (-0.3, 0.3)),
    "wide": ((0.22, 0.33), (-0.06, 0.06), (-0.4, 0.4)),
}
"""x, y [m] and yaw [rad]."""
LIFT_M = 0.10


class PotLift(Task):
    """Success: the pot is over 10 cm above the table and level within 15 degrees for 1 s."""

    name: ClassVar[str] = "pot_lift"
    instruction: ClassVar[str] = PHRASINGS["pot_lift"].standard
    hold_s: ClassVar[float] = 1.0
    grasped = "pot"

    def lay_out(self, scene: Scene, rng: np.random.Generator, layout: Layout = "plain") -> None:
        """Draw the pot's place and yaw."""
        x, y, yaw = _draw(rng, LIFTED_POT["plain" if layout == "plain" else "wide"])
        scene.place("pot", np.array([x, y, 0.0]), yaw)

    def adopt(self, scene: Scene) -> bool:
        """Whether there is a pot."""
        return scene.on_table("pot")

    def condition(self, scene: Scene) -> bool:
        """The pot's foot is high enough and level."""
        return scene.object_position("pot")[2] > LIFT_M and scene.lean("pot") < LARGEST_LEAN_RAD

    def stage(self, scene: Scene) -> float:
        """0.15 for each hand on the pot, and up to 0.6 more with its height."""
        height = np.clip(scene.object_position("pot")[2] / LIFT_M, 0.0, 1.0)
        return float(0.15 * len(scene.held_by("pot")) + 0.6 * height)


_TASKS: tuple[type[Task], ...] = (PotLift, PlaceVeg, PlaceBlock)
TASKS: dict[str, type[Task]] = {task.name: task for task in _TASKS}
"""Every task by name."""


def make_task(name: str) -> Task:
    """Return a fresh task.

    Raises:
        UnknownTask: naming the tasks there are.
    """
    if name not in TASKS:
        raise UnknownTask(f"unknown task {name!r}; the tasks are {', '.join(TASKS)}")
    return TASKS[name]()
