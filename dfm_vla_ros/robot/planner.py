"""From a checked chunk and what is running to the plan that follows; nothing is remembered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.chunks import ChunkRefused, JoinMode, Request, Tokenizer, Verdict
from dfm_vla_ros.robot.collision import Clearance, check_clearance
from dfm_vla_ros.robot.limits import JointLimits, PlanRefused, PlanSettings, PlanTooLate
from dfm_vla_ros.robot.plan import Approach, Plan, approach_at, brake, plan
from dfm_vla_ros.robot.progress import Progress, Reference, StepCount

Array = NDArray[np.float64]

SNAP_S = 1e-3
"""A joining this near a point of the old motion moves onto it: no segment gets shorter."""
FIRST_S = 1e-5
"""The first point is at least this long after the stamp."""


def joining_time(reference: Reference, now_s: float, lead_s: float) -> float:
    """Return when the new motion starts: ``lead_s`` from now, or at an old point near that."""
    wanted_s = now_s + lead_s
    reach_s = min(SNAP_S, lead_s / 2)
    near, _, _ = reference.knots(wanted_s - reach_s, wanted_s + reach_s)
    return float(near[np.argmin(np.abs(near - wanted_s))]) if near.size else wanted_s


def approach(reference: Reference, now_s: float, start_s: float) -> Approach:
    """Return the old motion's points between now and the joining.

    A controller follows the trajectory from the state that it commands on arrival. With these
    points that is the old motion exactly, cubic by cubic, and the seam lies at ``start_s``.
    """
    times, positions, velocities = reference.knots(now_s + FIRST_S, start_s)
    return Approach(now_s, times - now_s, positions, velocities)


def mixed(
    targets: Array,
    ahead: NDArray[np.bool_],
    request: Request,
    old: tuple[NDArray[np.bool_], Array],
) -> Array:
    """Return the targets (K, D) of the steps 1..K once the old motion has had its say.

    BLEND: of the n steps ahead that the old motion covers, ``w old + (1 - w) new`` with w falling
    linearly from n / (n + 1) to 1 / (n + 1). RTC: committed steps are the old motion's.

    Args:
        targets: (K, D) of the new chunk.
        ahead: (K,) steps that will be followed.
        request: mode and committed steps.
        old: what :func:`old_targets` returns.
    """
    covered, positions = old
    out = targets.copy()
    if request.mode == JoinMode.RTC:
        committed = covered & (np.arange(1, len(targets) + 1) <= request.committed_steps)
        out[committed] = positions[committed]
    elif request.mode == JoinMode.BLEND:
        overlap = covered & ahead
        n = int(overlap.sum())
        weight = (np.arange(n, 0, -1) / (n + 1))[:, None]
        out[overlap] = weight * positions[overlap] + (1 - weight) * targets[overlap]
    return out


def old_targets(
    reference: Reference, count: StepCount, observed: float, steps: int
) -> tuple[NDArray[np.bool_], Array]:
    """Return where the old motion is at steps 1..K after the observation.

    Args:
        reference: the old motion.
        count: its control steps over time.
        observed: the count at the observation.
        steps: K.

    Returns:
        Whether it goes on that far (K,), and its positions (K, D), NaN where it does not.
    """
    times = [count.when(observed + k) for k in range(1, steps + 1)]
    covered = np.array([time is not None for time in times])
    nowhere = np.full_like(reference.sample(0.0)[0], np.nan)
    positions = [nowhere if time is None else reference.sample(time)[0] for time in times]
    return covered, np.array(positions)


def smallest_scale(
    request: Request,
    remaining: float,
    last_step: int,
    age_s: float,
    speed: float,
    settings: PlanSettings,
) -> float:
    """Return the least time scale: slow mode, and in RTC no rest before the next chunk.

    The motion lasts for the expected interval with one step in reserve, at the cost of at most
    ``settings.slowest_speed``. At time scale s a chunk of age a joins after ``a / (s period)`` of
    its steps, so the scale that bridges the interval and stays the same from chunk to chunk is
    ``(interval + a) / ((last - 1) period)``; without it a fast chunk leaves the next one little
    to last on, that one runs slowly, and the speed swings.

    Args:
        request: mode, expected interval and control period.
        remaining: steps from the joining to the last.
        last_step: of the chunk.
        age_s: from the observation to the joining; more than the interval counts as that, for it
            was spent at rest [s].
        speed: slow mode, (0, 1].
        settings: the slowest speed.
    """
    scale = 1.0 / speed
    interval_s, period_s = request.expected_interval_s, request.control_period_s
    if request.mode != JoinMode.RTC or interval_s == 0:
        return scale
    slowest = 1.0 / settings.slowest_speed
    room_s, whole_s = (remaining - 1) * period_s, (last_step - 1) * period_s
    if room_s <= 0 or whole_s <= 0:
        return max(scale, slowest)
    stretch = max(interval_s / room_s, (interval_s + min(age_s, interval_s)) / whole_s)
    return max(scale, min(stretch, slowest))


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
