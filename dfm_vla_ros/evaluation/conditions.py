"""The conditions under which a checkpoint's robustness is measured, on the same seeds."""

from __future__ import annotations

from dataclasses import dataclass

from dfm_vla_ros.robot.joints import CAMERAS
from dfm_vla_ros.sim.perturbations import NONE, PERTURBATIONS
from dfm_vla_ros.sim.setting import PLAIN_SETTING, Setting

CLEAN = "clean"
WRONG_SENTENCE = {"pot_lift": "place_block", "place_block": "pot_lift", "place_veg": "pot_lift"}
"""Task -> the one whose sentence is said: of one arm instead of both, or both instead of one."""


@dataclass(frozen=True)
class Condition:
    """One row of the table.

    Attributes:
        setting: of the twin.
        dark_cameras: that see black.
    """

    setting: Setting = PLAIN_SETTING
    dark_cameras: tuple[str, ...] = ()


def conditions(task: str) -> dict[str, Condition]:
    """Return name -> condition for a task, :data:`CLEAN` first."""
    found = {CLEAN: Condition()}
    told = WRONG_SENTENCE[task]
    found[f"told_{told}"] = Condition(Setting(instruction_of=told))
    for name in PERTURBATIONS:
        if name != NONE:
            found[name] = Condition(Setting(perturbation=name))
    found["third_black"] = Condition(dark_cameras=("third",))
    found["all_black"] = Condition(dark_cameras=CAMERAS)
    found["held_out"] = Condition(Setting(phrasing="held_out"))
    return found
