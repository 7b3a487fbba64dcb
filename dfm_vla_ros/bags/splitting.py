"""Where one episode ends and the next begins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from dfm_vla_ros.bags.faults import BagError
from dfm_vla_ros.bags.observations import Step
from dfm_vla_ros.bags.types import CHUNKS, POLICY_STATUS, TASK_STATUS
from dfm_vla_ros.observing.episodes import EpisodeWatch

SPLITS = ("auto", "goals", "resets", "whole")


@dataclass(frozen=True)
class Goal:
    """What is being done.

    Attributes:
        number: how many there were before.
        instruction: the sentence; empty if nobody said it.
    """

    number: int
    instruction: str


class Splitter(ABC):
    """Follows the statuses of a run.

    Attributes:
        goal: the running one, or None between two.
        name: of the way, as in SPLITS.
    """

    name: str

    def __init__(self) -> None:
        """Nothing runs yet."""
        self.goal: Goal | None = None
        self._count = 0

    def _begin(self, instruction: str) -> None:
        self.goal = Goal(self._count, instruction)
        self._count += 1

    @abstractmethod
    def take(self, step: Step) -> bool:
        """Take a step in; return whether another goal, or none, runs from here on."""


class ByGoals(Splitter):
    """A goal of the policy node, by the id in its status and in its chunks.

    Another sentence, or a reset of the task, within a goal begins another episode.
    """

    name = "goals"

    def __init__(self) -> None:
        """No goal runs."""
        super().__init__()
        self._id, self._instruction = "", ""
        self._episode = EpisodeWatch()

    def take(self, step: Step) -> bool:
        """See ``Splitter``."""
        if step.name == TASK_STATUS:
            return self._reset(step.value)
        if step.name == POLICY_STATUS:
            return self._change(step.value.goal_id, step.value.instruction)
        if step.name == CHUNKS and not step.value.hold:
            return self._change(step.value.goal_id, step.value.instruction)
        return False

    def _reset(self, status: Any) -> bool:
        new = self._episode.is_new(status.task, status.seed, status.elapsed)
        if not new or self.goal is None:
            return False
        self._begin(self._instruction)
        return True

    def _change(self, goal_id: str, instruction: str) -> bool:
        if (goal_id, instruction) == (self._id, self._instruction):
            return False
        self._id, self._instruction = goal_id, instruction
        self.goal = None
        if goal_id:
            self._begin(instruction)
        return True


class ByResets(Splitter):
    """From one reset of the task to the next."""

    name = "resets"

    def __init__(self) -> None:
        """No task is known."""
        super().__init__()
        self._episode = EpisodeWatch()

    def take(self, step: Step) -> bool:
        """See ``Splitter``."""
        if step.name != TASK_STATUS:
            return False
        status: Any = step.value
        new = self._episode.is_new(status.task, status.seed, status.elapsed)
        if self.goal is not None and not new:
            return False
        self._begin(status.instruction)
        return True


class Whole(Splitter):
    """The whole recording is one episode."""

    name = "whole"

    def __init__(self) -> None:
        """It runs from the start."""
        super().__init__()
        self._begin("")

    def take(self, step: Step) -> bool:
        """See ``Splitter``."""
        return False


def make_splitter(how: str, statuses: Collection[str]) -> Splitter:
    """Return the splitter; ``auto`` takes the finest that the bag has the statuses for.

    Raises:
        BagError: there is no such way, or the bag lacks what it needs.
    """
    if how not in SPLITS:
        raise BagError(f"a bag cannot be split by {how!r}: give one of {', '.join(SPLITS)}")
    goals, resets = POLICY_STATUS in statuses or CHUNKS in statuses, TASK_STATUS in statuses
    if how == "auto":
        how = "goals" if goals else "resets" if resets else "whole"
    if how == "goals" and not goals:
        raise BagError(f"there is no {POLICY_STATUS} in the bag: give --split whole")
    if how == "resets" and not resets:
        raise BagError(f"there is no {TASK_STATUS} in the bag: give --split whole")
    return {"goals": ByGoals, "resets": ByResets, "whole": Whole}[how]()
