"""Scripted experts: from the object poses at reset to clean joint targets for both arms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.joints import ARMS
from dfm_vla_ros.sim.errors import OutOfReach, UnknownTask
from dfm_vla_ros.sim.expert_place_block import place_block_targets
from dfm_vla_ros.sim.expert_place_veg import place_veg_targets
from dfm_vla_ros.sim.expert_pot_lift import pot_lift_targets
from dfm_vla_ros.sim.scene import Scene
from dfm_vla_ros.sim.styles import DEMONSTRATORS, PLAIN, Demonstrator, Style
from dfm_vla_ros.sim.twin import HOME, Twin

Array = NDArray[np.float64]

ArmTargets = dict[str, Array]
EXPERTS: dict[str, Callable[[Scene, Array, Style], ArmTargets]] = {
    "pot_lift": pot_lift_targets,
    "place_veg": place_veg_targets,
    "place_block": place_block_targets,
}
"""Task -> (scene at reset, home (14,), style) -> targets (T, 7) of each arm that moves."""


def expert_targets(task: str, twin: Twin, style: Style = PLAIN) -> Array:
    """Return clean commands (T, 14) for the episode that ``twin`` was just reset to.

    Row k is due at (k + 1) control periods after the reset; an arm that is not needed stays at
    home.

    Raises:
        UnknownTask: if there is no expert for ``task``.
        OutOfReach: if a waypoint cannot be reached.
    """
    if task not in EXPERTS:
        raise UnknownTask(f"no expert for task {task!r}; there are {', '.join(EXPERTS)}")
    moving = EXPERTS[task](twin.scene, HOME, style)
    length = max(len(targets) for targets in moving.values())
    return np.concatenate([_column(moving, arm, length) for arm in ARMS], axis=1)


def styled_targets(
    task: str, twin: Twin, demonstrator: Demonstrator = DEMONSTRATORS["one"]
) -> tuple[Array, Style]:
    """Return ``expert_targets`` in the first of the demonstrator's styles that reaches, and it.

    Raises:
        OutOfReach: none does.
    """
    *styles, last = demonstrator.styles(task, twin.seed)
    for style in styles:
        try:
            return expert_targets(task, twin, style), style
        except OutOfReach:
            continue
    return expert_targets(task, twin, last), last


def _column(moving: ArmTargets, arm: str, length: int) -> Array:
    """One arm's targets (length, 7): its own, the last held, or home."""
    home = HOME[7 * ARMS.index(arm) :][None, :7]
    targets = moving.get(arm, home)
    return np.concatenate([targets, np.repeat(targets[-1:], length - len(targets), axis=0)])
