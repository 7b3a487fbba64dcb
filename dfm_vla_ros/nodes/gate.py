"""What a chunk must pass before the executor looks at it: who may command the arms, and when."""

from __future__ import annotations

from collections import OrderedDict

from dfm_vla_ros.robot.chunks import ChunkRefused, Verdict

REMEMBERED_GOALS = 1000
LARGEST_LEAD_S = 0.1
"""Of an observation before this machine's clock."""


class Gate:
    """Lets chunks through while nothing speaks against it.

    Attributes:
        active: the node is active.
        stopped: who or what stopped the arms; empty if they are not.
        conflict: who else commands the arms; empty if nobody does.
        jumped: how the clock jumped; empty once there are joint states of the new time.
        settling: the node was activated just now and may not know yet who else is there.
    """

    def __init__(self) -> None:
        """Begin closed: the node is not active."""
        self.active = False
        self.stopped = self.conflict = self.jumped = ""
        self.settling = self._has_jumped = False
        self._goals: OrderedDict[str, None] = OrderedDict()
        self._ended: frozenset[str] = frozenset()
        self._open_s = float("-inf")

    def check(self, goal_id: str, observation_s: float, now_s: float) -> None:
        """Raise unless a chunk of this goal, seen at ``observation_s``, may be executed.

        Raises:
            ChunkRefused: it may not, and why.
        """
        self._goals[goal_id] = None
        self._goals.move_to_end(goal_id)
        if len(self._goals) > REMEMBERED_GOALS:
            self._goals.popitem(last=False)
        for holds, verdict, text in self._checks(goal_id, observation_s, now_s):
            if not holds:
                raise ChunkRefused(verdict, text)

    def _checks(
        self, goal_id: str, observation_s: float, now_s: float
    ) -> tuple[tuple[bool, Verdict, str], ...]:
        ahead_s = observation_s - now_s
        return (
            (self.active, Verdict.NOT_ACTIVE, "the executor is not active: activate it"),
            (
                not self.stopped,
                Verdict.NOT_ACTIVE,
                f"stopped ({self.stopped}): call ~/resume, then send a new goal",
            ),
            (not self.conflict, Verdict.CONFLICT, self.conflict),
            (
                not self.settling,
                Verdict.NOT_ACTIVE,
                "activated just now: looking for others who command the arms",
            ),
            (not self.jumped, Verdict.CLOCK_JUMPED, self.jumped),
            (
                ahead_s <= LARGEST_LEAD_S,
                Verdict.CLOCK_JUMPED if self._has_jumped else Verdict.MALFORMED,
                f"the chunk was observed {ahead_s:.3g} s ahead of this clock: synchronise the "
                "clocks of policy and executor",
            ),
            (
                goal_id not in self._ended and observation_s >= self._open_s,
                Verdict.NOT_ACTIVE,
                f"goal {goal_id!r} is from before the arms were stopped: send a new goal",
            ),
        )

    def end_goals(self, now_s: float) -> None:
        """Let no goal move the arms that was seen, nor a chunk that was observed, before now."""
        self._ended, self._open_s = frozenset(self._goals), now_s

    def clock_jumped(self, text: str) -> None:
        """Refuse chunks until ``jumped`` is emptied."""
        self.jumped, self._has_jumped, self._open_s = text, True, float("-inf")
