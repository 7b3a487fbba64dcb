"""Place Block to Plate: a block from either side of the table to a plate at any height."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from dfm_vla_ros.sim.instructions import PHRASINGS
from dfm_vla_ros.sim.objects import BLOCK_SIDE_M, PLATE_RADIUS_M
from dfm_vla_ros.sim.scene import Scene
from dfm_vla_ros.sim.tasks.task import Task
from dfm_vla_ros.sim.variation import MIDDLE_SHARES, Layout

PLATE_X_M, PLATE_Y_M, PLATE_HEIGHT_M = (0.24, 0.31), (-0.04, 0.04), (0.02, 0.09)
BLOCK_X_M, BLOCK_Y_M = (0.25, 0.42), (0.14, 0.34)
BLOCK_YAW_RAD = (-0.7, 0.7)
WIDE_PLATE = ((0.22, 0.32), (-0.07, 0.07), (0.013, 0.10))
WIDE_BLOCK, WIDE_YAW_RAD = ((0.22, 0.43), (0.12, 0.37)), (-np.pi / 4, np.pi / 4)
"""The same, where everything may vary."""
MIDDLE_PLATE = ((0.21, 0.27), (0.07, 0.09), (0.013, 0.05))
MIDDLE_BLOCK = ((0.21, 0.29), (0.08, 0.11))
"""Where either arm reaches both; their sides are opposite."""
CLEARANCE_M = 0.17
"""Least distance of the block from the plate's centre: room for the gripper beside the plate."""


class PlaceBlock(Task):
    """Success: the block rests on the plate, let go, for half a second."""

    name: ClassVar[str] = "place_block"
    instruction: ClassVar[str] = PHRASINGS["place_block"].standard
    grasped = "block"

    def lay_out(self, scene: Scene, rng: np.random.Generator, layout: Layout = "plain") -> None:
        """Draw the plate's place and height, the block's side, place and yaw."""
        plate_ranges, block_ranges = (PLATE_X_M, PLATE_Y_M, PLATE_HEIGHT_M), (BLOCK_X_M, BLOCK_Y_M)
        wide = layout != "plain"
        middle = wide and rng.uniform() < MIDDLE_SHARES[layout]
        if wide:
            plate_ranges = MIDDLE_PLATE if middle else WIDE_PLATE
            block_ranges = MIDDLE_BLOCK if middle else WIDE_BLOCK
        plate = rng.uniform(*np.transpose(plate_ranges))
        side = rng.choice([-1.0, 1.0])
        if middle:
            plate[1] *= -side
        while True:
            block = rng.uniform(*np.transpose(block_ranges)) * (1.0, side)
            if middle or np.linalg.norm(block - plate[:2]) > CLEARANCE_M:
                break
        yaw = rng.uniform(*(WIDE_YAW_RAD if wide else BLOCK_YAW_RAD))
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
