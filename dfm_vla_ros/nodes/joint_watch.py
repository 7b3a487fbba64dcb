"""How old and how good the joint states are."""

from __future__ import annotations

from collections.abc import Callable

from sensor_msgs.msg import JointState

from dfm_vla_ros.robot.chunks import ChunkRefused

LARGEST_LEAD_S = 0.5
"""Of a stamp before this machine's clock; clocks of two machines may differ by less."""


class JointWatch:
    """Counts joint states and remembers when the newest usable one was made and came.

    A message that is not taken leaves the age growing, so silence and nonsense end alike.
    """

    def __init__(self, maximum_age_s: float) -> None:
        """Know none yet."""
        self._maximum_age_s = maximum_age_s
        self._stamp_s = self._came_s = float("-inf")
        self.fault = ""
        """Why the newest message was not taken; empty if it was."""
        self.count = self.refused = 0

    def take(
        self,
        message: JointState,
        measure: Callable[[list[str], list[float], float], None],
        stamp_s: float,
        now_s: float,
        steady_s: float,
    ) -> bool:
        """Hand a message to ``measure``; return whether it is the first with this fault."""
        self.count += 1
        before, self.fault = self.fault, self._fault(message, measure, stamp_s, now_s)
        if not self.fault:
            self._stamp_s, self._came_s = stamp_s, steady_s
            return False
        self.refused += 1
        return self.fault != before

    def _fault(self, message: JointState, measure: Callable, stamp_s: float, now_s: float) -> str:
        ahead_s = stamp_s - now_s
        if ahead_s > LARGEST_LEAD_S:
            return f"joint states are stamped {ahead_s:.3g} s ahead: synchronise the clocks"
        try:
            measure(message.name, message.position, stamp_s)
        except ChunkRefused as refusal:
            return str(refusal)
        return ""

    def forget(self) -> None:
        """Take none that came so far for current: the clock jumped."""
        self._stamp_s = self._came_s = float("-inf")

    def age_s(self, now_s: float, steady_s: float) -> float:
        """Return the larger age by stamp and by arrival [s]; infinite before the first."""
        return max(now_s - self._stamp_s, steady_s - self._came_s)

    def complaint(self, now_s: float, steady_s: float) -> str:
        """Return how old they are and why, if they are too old; else an empty text."""
        age_s = self.age_s(now_s, steady_s)
        if age_s <= self._maximum_age_s:
            return ""
        why = self.fault or "is the robot publishing joint_states?"
        if age_s == float("inf"):
            return f"no usable joint states yet: {why}"
        return (
            f"the newest joint states are {age_s:.3f} s old, allowed is {self._maximum_age_s} s: "
            f"{why}"
        )
