"""How old what the executor hears may be, and that its clock only goes forward."""

from __future__ import annotations

import numpy as np

from dfm_vla_ros.robot.chunks import ChunkRefused, Verdict

BACKWARD_S = 1e-3
"""A clock that goes back by more has jumped."""
AHEAD_S = 0.5
"""An observation stamped later than now by more comes from another clock."""


class Freshness:
    """Remembers the newest stamps since a reset and refuses what is too old; all [s]."""

    def __init__(self, since_s: float, maximum_age_s: float, maximum_chunk_age_s: float) -> None:
        """Nothing from before ``since_s`` counts."""
        self.since_s = since_s
        self.maximum_age_s, self.maximum_chunk_age_s = maximum_age_s, maximum_chunk_age_s
        self.measured_s = self.observed_s = self.newest_s = -np.inf

    def jumped(self, now_s: float) -> bool:
        """Return whether the clock went backward (or is no number)."""
        return not self.newest_s - BACKWARD_S <= now_s < np.inf

    def check_clock(self, now_s: float) -> None:
        """Raise ChunkRefused if the clock jumped."""
        if self.jumped(now_s):
            raise ChunkRefused(
                Verdict.CLOCK_JUMPED,
                f"it is {now_s:.3f} s, it was {self.newest_s:.3f} s before: reset the executor",
            )

    def check_measured(self, now_s: float) -> None:
        """Raise ChunkRefused if the joint states are too old, or from another clock."""
        age_s = now_s - self.measured_s
        if not -self.maximum_age_s <= age_s <= self.maximum_age_s:
            raise ChunkRefused(
                Verdict.NO_REFERENCE,
                f"the newest joint states are {age_s:.3f} s old, allowed is "
                f"{self.maximum_age_s} s: is the robot publishing joint_states?",
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
