"""Pot Lift: both arms take a pot by its handles and lift it level."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from dfm_vla_ros.sim.instructions import PHRASINGS
from dfm_vla_ros.sim.scene import Scene
from dfm_vla_ros.sim.tasks.task import Task
from dfm_vla_ros.sim.variation import Layout

POT_X_M, POT_Y_M, POT_YAW_RAD = (0.26, 0.34), (-0.04, 0.04), (-0.3, 0.3)
WIDE = ((0.22, 0.33), (-0.06, 0.06), (-0.4, 0.4))
"""The same, where everything may vary."""
LIFT_M = 0.10
LARGEST_LEAN_RAD = np.radians(15)


class PotLift(Task):
    """Success: the pot is over 10 cm above the table and level within 15 degrees for 1 s."""

    name: ClassVar[str] = "pot_lift"
    instruction: ClassVar[str] = PHRASINGS["pot_lift"].standard
    hold_s: ClassVar[float] = 1.0
    grasped = "pot"

    def lay_out(self, scene: Scene, rng: np.random.Generator, layout: Layout = "plain") -> None:
        """Draw the pot's place and yaw."""
        ranges = (POT_X_M, POT_Y_M, POT_YAW_RAD) if layout == "plain" else WIDE
        x, y, yaw = rng.uniform(*np.transpose(ranges))
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
