"""What one chunk is made from, and what its message says of it so that it can be made again."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dfm_vla_ros.msg import ActionChunk
from dfm_vla_ros.nodes.goals import Goal
from dfm_vla_ros.nodes.stamps import TimeBase
from dfm_vla_ros.nodes.trajectories import doubles
from dfm_vla_ros.policy.types import Guidance, Observation


@dataclass(frozen=True)
class Submission:
    """A look at the world on its way to become a chunk.

    Attributes:
        goal: that it serves.
        holds: how many holds there were at the look.
        at_s: stamp of the triggering image [s].
        observation: what was seen.
        image_stamps_s: camera -> stamp of its image [s].
        seed: of the refinement.
        guidance: what the chunk keeps of the running one.
        trace: whether the chunk is traced.
    """

    goal: Goal
    holds: int
    at_s: float
    observation: Observation
    image_stamps_s: Mapping[str, float]
    seed: int
    guidance: Guidance | None
    trace: bool

    def describe(self, message: ActionChunk, time_base: TimeBase) -> None:
        """Fill in what the chunk was made from; its tokens hold what was committed."""
        message.goal_id = self.goal.id
        message.instruction = self.observation.instruction
        message.observation_stamp = time_base.stamp(self.at_s)
        message.cameras = list(self.image_stamps_s)
        message.image_stamps = [time_base.stamp(at_s) for at_s in self.image_stamps_s.values()]
        message.measured_positions = doubles(self.observation.positions)
        message.seed = self.seed
        if self.guidance is not None and self.guidance.start_t0 is not None:
            message.warm_start = self.guidance.start_t0
            tokens = np.ascontiguousarray(self.guidance.tokens, dtype=np.uint16)
            message.guidance_tokens = array("H", tokens.tobytes())
