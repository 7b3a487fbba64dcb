"""Where one episode ends and the next begins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from dfm_vla_ros.bags.observations import Step
from dfm_vla_ros.bags.storage import CHUNKS, POLICY_STATUS, TASK_STATUS
from dfm_vla_ros.data.format import Episode
from dfm_vla_ros.errors import BagError
from dfm_vla_ros.observing.sources import EpisodeWatch


@dataclass(frozen=True)
class EpisodeSettings:
    """How episodes are cut.

    Attributes:
        period_s: control period of the data set [s].
        split: one of ``splitting.SPLITS``.
        instruction: instead of what the bag says.
        task: name of the task; empty: as the bag says, or made of the instruction.
        shortest_s: shorter parts are left out [s].
        success: of episodes of which nothing tells.
    """

    period_s: float = 0.1
    split: str = "auto"
    instruction: str = ""
    task: str = ""
    shortest_s: float = 1.0
    success: bool = False


@dataclass(frozen=True)
class Cut:
    """A part of a bag that ended.

    Attributes:
        key: of the episode in the data set.
        from_ns: receipt of the first frame [ns].
        to_ns: of the last [ns].
        frames: how many.
        instruction: what was said.
        success: whether the task was done; None if nothing tells.
        episode: the frames, valid until the next cut; None if they are known or left out.
        why: why there is no episode; empty if there is, or if it is known.
    """

    key: str
    from_ns: int
    to_ns: int
    frames: int
    instruction: str
    success: bool | None
    episode: Episode | None = None
    why: str = ""


EARLY = 0.25
"""Share of a period by which an image may come before its frame is due."""


@dataclass(frozen=True)
class Gap:
    """A time without usable frames.

    Attributes:
        from_ns: receipt of the last frame before it, or of the first unusable image [ns].
        to_ns: receipt of the first frame after it, or of the last unusable image [ns].
        why: the problem that the live node would have made, or which frames are missing.
    """

    from_ns: int
    to_ns: int
    why: str

    def text(self, start_ns: int) -> str:
        """Return one line; times count from ``start_ns``."""
        from_s, to_s = ((at - start_ns) * 1e-9 for at in (self.from_ns, self.to_ns))
        return f"{from_s:.3f} s to {to_s:.3f} s: {self.why}"


class Grid:
    """Frame k of a part is due k periods after its first.

    It is the first image from a quarter of a period before that on; one that would be three
    quarters or more late is missing. So images at a multiple of the control rate jitter without
    harm, and no image is two frames.
    """

    def __init__(self, period_s: float) -> None:
        """Begin with the first image."""
        self._period_s = period_s
        self._first_s: float | None = None
        self._count = 0

    def restart(self) -> None:
        """Let the next image be the first."""
        self._first_s, self._count = None, 0

    def is_due(self, at_s: float) -> bool:
        """Return whether the image of ``at_s`` is a frame."""
        return self._ahead(at_s) >= -EARLY

    def is_missed(self, at_s: float) -> bool:
        """Return whether the frame that is due before ``at_s`` is missing."""
        return self._ahead(at_s) >= 1 - EARLY

    def take(self, at_s: float) -> None:
        """Count the image of ``at_s`` as a frame."""
        if self._first_s is None:
            self._first_s = at_s
        self._count += 1

    def _ahead(self, at_s: float) -> float:
        """Return how far ``at_s`` is beyond the frame that is due [periods]."""
        if self._first_s is None:
            return 0.0
        # A stamp has nanoseconds, their sum rounds.
        return (at_s - self._first_s) / self._period_s - self._count + 1e-6


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
