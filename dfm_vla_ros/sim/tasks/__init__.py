"""The three tasks: layout, sentence, success, progress."""

from __future__ import annotations

from dfm_vla_ros.sim.errors import UnknownTask
from dfm_vla_ros.sim.tasks.place_block import PlaceBlock
from dfm_vla_ros.sim.tasks.place_veg import PlaceVeg
from dfm_vla_ros.sim.tasks.pot_lift import PotLift
from dfm_vla_ros.sim.tasks.task import Task

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
