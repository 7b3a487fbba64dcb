"""Plays a bag to the Observer of the live node, and tells where one goal ends."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from dfm_vla_ros.bags.reading import Bag, Message
from dfm_vla_ros.bags.storage import CHUNKS, POLICY_STATUS, TASK_STATUS, in_order
from dfm_vla_ros.bags.topics import Topics
from dfm_vla_ros.errors import BagError
from dfm_vla_ros.observing.observer import Observer
from dfm_vla_ros.observing.sources import (
    NANOSECONDS,
    EpisodeWatch,
    Moment,
    TimeBase,
    nanoseconds,
)

CLOCK = "clock"
"""Name of the step that says: the clock jumped here."""
WINDOW_NS = NANOSECONDS // 2
"""How much later than others a message may come and still be put in its place [ns]."""
BACK_NS = 50_000_000
"""A clock that is disciplined may step back by less [ns]."""
FORWARD_NS = NANOSECONDS // 2
"""Stamps that gain more than this on the time of receipt, from one message to the next [ns]."""


@dataclass(frozen=True, slots=True)
class Step:
    """One message, which the observer has taken.

    Attributes:
        name: what its topic is: of the Observer, one of ``topics.STATUSES``, or CLOCK.
        value: the message; None for CLOCK.
        at_s: when it was made [s], by the observer's time base.
        stamp_ns: the same [ns].
        received_ns: when the recorder got it [ns].
        looks: it is a usable image of the triggering camera.
    """

    name: str
    value: Any
    at_s: float
    stamp_ns: int
    received_ns: int
    looks: bool

    @property
    def now(self) -> Moment:
        """The present, for the observer."""
        return Moment(self.at_s, self.at_s)


@dataclass(frozen=True, slots=True)
class _Stamped:
    message: Message
    stamp_ns: int
    segment: int


class Playback:
    """Iterates over a bag once and keeps ``observer`` fed.

    Messages go by the time in their headers; where that is 0, by the time of receipt. At one
    moment statuses come first and the triggering image last: whatever was made up to the moment of
    an image is known when it calls for a look. Nothing that was made later is.
    """

    def __init__(self, bag: Bag, topics: Topics) -> None:
        """Play ``bag``; nothing is read yet."""
        self._bag, self._topics = bag, topics
        self._time = TimeBase()
        self.observer = Observer(self._time, topics.settings)
        self._last: dict[str, tuple[int, int]] = {}
        self._segment = 0

    def __iter__(self) -> Iterator[Step]:
        """Yield every message as a step, and a step named CLOCK wherever the clock jumped."""
        messages = self._bag.messages(self._topics.all)
        for segment, group in groupby(map(self._stamped, messages), lambda each: each.segment):
            ordered = in_order(group, lambda each: each.stamp_ns, WINDOW_NS, self._rank)
            for number, stamped in enumerate(ordered):
                if segment and not number:
                    self.observer.jump_back()
                    yield self._step(CLOCK, None, stamped, looks=False)
                yield from self._feed(stamped)

    def _stamped(self, message: Message) -> _Stamped:
        """Return the message with its time; begin a segment where the clock jumped."""
        stamp = message.value.header.stamp
        stamp_ns = nanoseconds(stamp)
        if stamp_ns == 0:
            stamp_ns = message.received_ns
            stamp.sec, stamp.nanosec = divmod(stamp_ns, NANOSECONDS)
            self._bag.faults.add(
                message.topic,
                "unstamped",
                "its header's stamp is 0: the time of receipt is used",
                message.received_ns,
            )
        if message.topic in self._topics.feeds and self._jumped(message, stamp_ns):
            self._segment += 1
        return _Stamped(message, stamp_ns, self._segment)

    def _jumped(self, message: Message, stamp_ns: int) -> bool:
        """Return whether the stamps of a topic went back, or gained on the time of receipt."""
        before = self._last.get(message.topic)
        self._last[message.topic] = (stamp_ns, message.received_ns)
        if before is None:
            return False
        moved_ns, passed_ns = stamp_ns - before[0], message.received_ns - before[1]
        if moved_ns < -BACK_NS:
            self._note_jump("back", moved_ns, message)
        elif moved_ns - passed_ns > FORWARD_NS:
            self._note_jump("forward", moved_ns - passed_ns, message)
        else:
            return False
        return True

    def _note_jump(self, way: str, by_ns: int, message: Message) -> None:
        what = f"stamps went {way} by {abs(by_ns) * 1e-9:.3f} s"
        self._bag.faults.add(message.topic, way, what, message.received_ns)

    def _rank(self, stamped: _Stamped) -> int:
        topic = stamped.message.topic
        return 0 if topic in self._topics.statuses else 1 + (topic == self._topics.trigger)

    def _feed(self, stamped: _Stamped) -> Iterator[Step]:
        message = stamped.message
        at_s = self._time.from_nanoseconds(stamped.stamp_ns)
        now = Moment(at_s, at_s)
        name = self._topics.statuses.get(message.topic)
        if name is not None:
            if name in self.observer.topics:
                self.observer.feed(name, message.value, now)
            yield self._step(name, message.value, stamped, looks=False)
            return
        name = self._topics.feeds[message.topic]
        looks = self.observer.feed(name, message.value, now)
        yield self._step(name, message.value, stamped, looks)

    def _step(self, name: str, value: Any, stamped: _Stamped, looks: bool) -> Step:
        at_s = self._time.from_nanoseconds(stamped.stamp_ns)
        return Step(name, value, at_s, stamped.stamp_ns, stamped.message.received_ns, looks)


SPLITS = ("auto", "goals", "resets", "whole")


class Splitter:
    """Follows the statuses of a run; by itself it takes the whole recording for one goal.

    Attributes:
        name: of the way, as in SPLITS.
        number: how many goals there were before the running one.
        instruction: of the running goal, None between two goals; empty if nobody said it.
    """

    name = "whole"

    def __init__(self) -> None:
        """Begin with one goal."""
        self.number = -1
        self.instruction: str | None = None
        self._watch = EpisodeWatch()
        self._begin("")

    def take(self, step: Step) -> bool:
        """Take a step in; return whether another goal, or none, runs from here on."""
        return False

    def _begin(self, instruction: str) -> None:
        self.instruction = instruction
        self.number += 1

    def _is_reset(self, status: Any) -> bool:
        return self._watch.is_new(status.task, status.seed, status.elapsed)


class _ByResets(Splitter):
    """From one reset of the task to the next."""

    name = "resets"

    def __init__(self) -> None:
        super().__init__()
        self.number, self.instruction = -1, None

    def take(self, step: Step) -> bool:
        if step.name != TASK_STATUS:
            return False
        is_reset = self._is_reset(step.value)
        if self.instruction is not None and not is_reset:
            return False
        self._begin(step.value.instruction)
        return True


class _ByGoals(_ByResets):
    """A goal of the policy node, by the id in its status and in its chunks.

    Another sentence, or a reset of the task, within a goal begins another episode.
    """

    name = "goals"
    _goal = ("", "")

    def take(self, step: Step) -> bool:
        if step.name == TASK_STATUS:
            if not self._is_reset(step.value) or self.instruction is None:
                return False
            self._begin(self._goal[1])
            return True
        if step.name == POLICY_STATUS or (step.name == CHUNKS and not step.value.hold):
            return self._change(step.value.goal_id, step.value.instruction)
        return False

    def _change(self, goal_id: str, instruction: str) -> bool:
        if (goal_id, instruction) == self._goal:
            return False
        self._goal, self.instruction = (goal_id, instruction), None
        if goal_id:
            self._begin(instruction)
        return True


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
    return {"goals": _ByGoals, "resets": _ByResets, "whole": Splitter}[how]()
