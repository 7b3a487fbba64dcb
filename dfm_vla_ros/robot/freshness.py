"""The one place that says whether what is known of the robot is fresh."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from dfm_vla_ros.robot.chunks import ChunkRefused, Verdict

AHEAD_S = 0.5
"""A stamp later than now by more comes from another clock; two machines' may differ by less."""
BACKWARD_S = 1e-3
"""A clock that goes back by more has jumped."""


@dataclass(frozen=True)
class Moment:
    """Now on two clocks.

    Attributes:
        ros_s: ROS time [s], which a simulation may stop.
        steady_s: the machine's steady clock [s], which nothing stops.
    """

    ros_s: float
    steady_s: float


class Freshness:
    """When the newest usable message of a source was made and when it came, and how old it may be.

    A message that is not usable is not put, so silence and nonsense end alike.
    """

    def __init__(self, maximum_age_s: float, decimals: int = 2) -> None:
        """Know no message yet; ages are told with ``decimals``."""
        self.maximum_age_s, self._decimals = maximum_age_s, decimals
        self.clear()

    def clear(self) -> None:
        """Take no message that came so far for current."""
        self.stamp_s = self.came_s = -inf

    def renew(self, stamp_s: float = inf, came_s: float = inf) -> None:
        """Take in a message made at ``stamp_s``, come at ``came_s``; inf: does not count."""
        self.stamp_s, self.came_s = stamp_s, came_s

    def age_s(self, now: Moment) -> float:
        """Return the larger age by stamp and by arrival [s]; infinite before the first message."""
        return max(now.ros_s - self.stamp_s, now.steady_s - self.came_s)

    def problem(self, now: Moment) -> str:
        """Return how the newest message is too old or from another clock, or an empty text."""
        age_s = self.age_s(now)
        if not age_s <= self.maximum_age_s:  # true of NaN too
            return f"{age_s:.{self._decimals}f} s old, allowed is {self.maximum_age_s} s"
        ahead_s = self.stamp_s - now.ros_s
        if ahead_s > self.maximum_age_s:
            return f"stamped {ahead_s:.{self._decimals}f} s ahead of this clock: set both clocks"
        return ""


class ExecutorFreshness:
    """The newest times since a reset, on the executor's clock; refuses what is too old [s]."""

    def __init__(self, since_s: float, maximum_age_s: float, maximum_chunk_age_s: float) -> None:
        """Nothing from before ``since_s`` counts."""
        self.since_s, self.maximum_chunk_age_s = since_s, maximum_chunk_age_s
        self.measured = Freshness(maximum_age_s, decimals=3)
        self.observed_s = self.newest_s = -inf

    def jumped(self, now_s: float) -> bool:
        """Return whether the clock went backward (or is no number)."""
        return not self.newest_s - BACKWARD_S <= now_s < inf

    def check_clock(self, now_s: float) -> None:
        """Raise ChunkRefused if the clock jumped."""
        if self.jumped(now_s):
            raise ChunkRefused(
                Verdict.CLOCK_JUMPED,
                f"it is {now_s:.3f} s, it was {self.newest_s:.3f} s before: reset the executor",
            )

    def check_measured(self, now_s: float) -> None:
        """Raise ChunkRefused if the joint states are too old, or from another clock."""
        problem = self.measured.problem(Moment(now_s, now_s))
        if problem:
            raise ChunkRefused(
                Verdict.NO_REFERENCE,
                f"the newest joint states are {problem}: is the robot publishing joint_states?",
            )

    def check_observation(self, observation_s: float, now_s: float) -> None:
        """Raise ChunkRefused if a chunk's observation is too old, or from another clock."""
        age_s = now_s - observation_s
        if age_s < -AHEAD_S:
            raise ChunkRefused(
                Verdict.MALFORMED,
                f"the observation lies {-age_s:.3f} s ahead: observation_stamp must be on the "
                "executor's clock",
            )
        if observation_s < self.since_s:
            raise ChunkRefused(Verdict.TOO_LATE, "the chunk was made before the robot was reset")
        if observation_s < self.observed_s:
            raise ChunkRefused(
                Verdict.TOO_LATE,
                f"a chunk {self.observed_s - observation_s:.3f} s newer is running: only one "
                "policy may command the arms",
            )
        if age_s > self.maximum_chunk_age_s:
            raise ChunkRefused(
                Verdict.TOO_LATE,
                f"the observation is {age_s:.3f} s old, allowed is {self.maximum_chunk_age_s} s: "
                "inference takes too long",
            )
