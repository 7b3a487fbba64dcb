"""Place Veg. to Pot: a carrot or a cucumber from either side of the table into an open pot."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from dfm_vla_ros.sim.instructions import PHRASINGS
from dfm_vla_ros.sim.objects import POT_HEIGHT_M, POT_RADIUS_M, VEGETABLE_RADIUS_M, VEGETABLES
from dfm_vla_ros.sim.scene import Scene
from dfm_vla_ros.sim.tasks.task import Task
from dfm_vla_ros.sim.variation import MIDDLE_SHARES, Layout

POT_X_M, POT_Y_M, POT_YAW_RAD = (0.25, 0.31), (-0.03, 0.03), (-0.4, 0.4)
VEGETABLE_X_M, VEGETABLE_Y_M, VEGETABLE_YAW_RAD = (0.26, 0.40), (0.20, 0.34), (-0.6, 0.6)
WIDE_POT = ((0.23, 0.33), (-0.05, 0.05), (-0.7, 0.7))
WIDE_VEGETABLE = ((0.23, 0.41), (0.20, 0.37), (-0.8, 0.8))
"""The same, where everything may vary."""
MIDDLE_POT = ((0.23, 0.27), (0.08, 0.10), (-0.5, 0.5))
MIDDLE_VEGETABLE = ((0.21, 0.28), (0.10, 0.12), (-0.5, 0.5))
"""Where either arm reaches both; their sides are opposite. The pot's yaw is from a quarter turn,
handles to front and back."""
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
        pot_ranges = (POT_X_M, POT_Y_M, POT_YAW_RAD)
        ranges = (VEGETABLE_X_M, VEGETABLE_Y_M, VEGETABLE_YAW_RAD)
        wide = layout != "plain"
        middle = wide and rng.uniform() < MIDDLE_SHARES[layout]
        if wide:
            pot_ranges = MIDDLE_POT if middle else WIDE_POT
            ranges = MIDDLE_VEGETABLE if middle else WIDE_VEGETABLE
        pot = rng.uniform(*np.transpose(pot_ranges))
        self.vegetable = str(rng.choice(VEGETABLES))
        x, y, yaw = rng.uniform(*np.transpose(ranges))
        side = rng.choice([-1.0, 1.0])
        if middle:
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
