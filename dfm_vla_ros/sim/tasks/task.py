"""What a task is."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from dfm_vla_ros.sim.scene import Scene
from dfm_vla_ros.sim.variation import Layout


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
