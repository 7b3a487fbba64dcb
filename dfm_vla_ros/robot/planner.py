"""From a checked chunk and what is running to the plan that follows; nothing is remembered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.brake import brake
from dfm_vla_ros.robot.chunks import ChunkRefused, JoinMode, Request, Tokenizer, Verdict
from dfm_vla_ros.robot.clearance import Clearance, check_clearance
from dfm_vla_ros.robot.joining import approach, joining_time, mixed, old_targets, smallest_scale
from dfm_vla_ros.robot.limits import JointLimits
from dfm_vla_ros.robot.plan import Approach, Plan, approach_at, plan
from dfm_vla_ros.robot.progress import Progress, StepCount
from dfm_vla_ros.robot.reference import Reference
from dfm_vla_ros.robot.settings import PlanRefused, PlanSettings, PlanTooLate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Running:
    """What a new motion joins.

    Attributes:
        reference: the commanded motion.
        count: its control steps over time.
        still: (D,) dry run: where the robot is, at rest; None: it follows the reference.
    """

    reference: Reference
    count: StepCount
    still: Array | None = None

    def at(self, start_s: float, now_s: float) -> tuple[Array, Array, Approach]:
        """Return position and velocity (D,) at the joining, and how they are reached."""
        if self.still is not None:
            return self.still, np.zeros_like(self.still), approach_at(now_s, self.still.size)
        return *self.reference.sample(start_s), approach(self.reference, now_s, start_s)


class Planner:
    """Plans chunks and brakes of one robot."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        limits: JointLimits,
        settings: PlanSettings,
        clearance: Clearance | None,
    ) -> None:
        """Keep what does not change from chunk to chunk; ``clearance`` None: unchecked."""
        self.tokenizer, self.limits = tokenizer, limits
        self.settings, self.clearance = settings, clearance

    def chunk(
        self, request: Request, running: Running, now_s: float, speed: float
    ) -> tuple[Plan, Progress]:
        """Return what a chunk becomes at ``speed`` (0, 1], and its phase.

        Raises:
            ChunkRefused: LIMIT_VIOLATED, TOO_LATE or COLLISION.
        """
        period_s = request.control_period_s
        start_s = joining_time(running.reference, now_s, self.settings.lead_s)
        observed = running.count.at(request.observation_s)
        consumed = max(running.count.at(start_s) - observed, 0.0)
        last = request.execute_steps or request.horizon
        due_s = start_s + (np.arange(1, last + 1) - consumed) * period_s
        targets = self._targets(request, running, observed, due_s, start_s)
        age_s = start_s - request.observation_s
        scale = smallest_scale(request, last - consumed, last, age_s, speed, self.settings)
        made = self._plan(targets, due_s, start_s, scale, running.at(start_s, now_s))
        step_s = period_s * made.time_scale
        zero_s = start_s - consumed * step_s
        return made, Progress(request.goal_id, request.chunk_id, zero_s, step_s, last)

    def brake(self, running: Running, start_s: float, now_s: float) -> Plan:
        """Return the shortest way to rest from the state commanded at ``start_s``."""
        position, velocity, before = running.at(start_s, now_s)
        return brake(position, velocity, start_s, before, self.limits, self.settings)

    def _targets(
        self, request: Request, running: Running, observed: float, due_s: Array, start_s: float
    ) -> Array:
        """Return the targets (K, D) of steps 1..K, with what the old motion has to say."""
        targets = self.tokenizer.decode(request.tokens, request.reference)[: due_s.size]
        if request.mode not in (JoinMode.BLEND, JoinMode.RTC):
            return targets
        old = old_targets(running.reference, running.count, observed, due_s.size)
        return mixed(targets, due_s >= start_s + self.settings.minimum_gap_s, request, old)

    def _plan(
        self,
        targets: Array,
        due_s: Array,
        start_s: float,
        scale: float,
        state: tuple[Array, Array, Approach],
    ) -> Plan:
        """Return the plan from ``state``, checked for clearance."""
        position, velocity, before = state
        limits, settings = self.limits, self.settings
        try:
            made = plan(
                targets, due_s, start_s, position, velocity, limits, settings, scale, before
            )
        except PlanTooLate as error:
            raise ChunkRefused(Verdict.TOO_LATE, str(error)) from error
        except PlanRefused as error:
            raise ChunkRefused(Verdict.LIMIT_VIOLATED, str(error)) from error
        if self.clearance is not None:
            check_clearance(made.spline, self.clearance)
        return made
