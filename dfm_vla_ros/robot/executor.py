"""The executor without ROS: chunks of tokens in, plans out, and the running reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.robot.chunks import (
    ChunkRefused,
    JoinMode,
    Request,
    Tokenizer,
    Verdict,
    check_content,
    check_identity,
    ordered_positions,
)
from dfm_vla_ros.robot.collision import Clearance
from dfm_vla_ros.robot.freshness import ExecutorFreshness
from dfm_vla_ros.robot.limits import DEFAULT_SETTINGS, JointLimits, PlanSettings
from dfm_vla_ros.robot.plan import Plan
from dfm_vla_ros.robot.planner import Planner, Running, joining_time
from dfm_vla_ros.robot.progress import Account, Ledger, Progress, Reference, StepCount

__all__ = [
    "Account",
    "ChunkRefused",
    "Executor",
    "JoinMode",
    "Progress",
    "Request",
    "SpeedError",
    "Verdict",
]

Array = NDArray[np.float64]


class SpeedError(DfmVlaError):
    """A speed outside (0, 1]."""


class Executor:
    """Checks chunks, plans them from its own running reference and remembers what it commands.

    All times are on one clock [s]. Step k of a chunk is due once k control steps have been
    executed since its observation; while the arms rest or brake none are.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        limits: JointLimits,
        settings: PlanSettings = DEFAULT_SETTINGS,
        maximum_age_s: float = 0.5,
        clearance: Clearance | None = None,
        dry_run: bool = False,
    ) -> None:
        """Wait for joint states; refuse chunks while the newest are too old.

        Args:
            tokenizer: decodes the chunks.
            limits: the D joints.
            settings: margins and bounds.
            maximum_age_s: of the newest joint states [s].
            clearance: refuses motions that come too close to anything; None: unchecked.
            dry_run: plan from where the robot is, at rest, and command nothing else.
        """
        self.tokenizer, self.limits = tokenizer, limits
        self.dry_run = dry_run
        self._settings = settings
        self._planner = Planner(tokenizer, limits, settings, clearance)
        self._maximum_age_s = maximum_age_s
        self._speed = 1.0
        self._stop_reason = ""
        self._progress: Progress | None = None
        self._ledger = Ledger()
        self._forget(-np.inf)

    def _forget(self, since_s: float) -> None:
        self._reference: Reference | None = None
        self._commanded = False
        self._measured: Array | None = None
        self._fresh = ExecutorFreshness(
            since_s, self._maximum_age_s, self._settings.maximum_chunk_age_s
        )
        self._count = StepCount(max(10.0, self._settings.maximum_chunk_age_s))
        self._end_s, self._braking = -np.inf, False

    @property
    def speed(self) -> float:
        """Slow mode: the share of full speed, (0, 1], at which chunks to come run."""
        return self._speed

    @speed.setter
    def speed(self, value: float) -> None:
        if not 0 < value <= 1:
            raise SpeedError(f"speed is {value}, allowed are numbers above 0, up to 1")
        self._speed = float(value)

    @property
    def progress(self) -> Progress | None:
        """The phase of the newest chunk accepted; None before the first."""
        return self._progress

    @property
    def stop_reason(self) -> str:
        """Why the arms are stopped; empty if they are not."""
        return self._stop_reason

    def account(self, now_s: float) -> Account:
        """Return what became of the chunks until now."""
        return self._ledger.at(now_s)

    def reset(self, since_s: float) -> None:
        """Forget the reference: the robot was put somewhere else at ``since_s``.

        The next joint states from then on are the new one; chunks seen from before are refused.
        """
        self._ledger.supersede(since_s)
        self._leave(since_s)
        self._forget(since_s)

    def measure(self, names: Sequence[str], positions: Sequence[float], stamp_s: float) -> None:
        """Take in joint states: after a reset and until a command they are the reference.

        So a motion that somebody else began, a killed executor say, comes to its rest first.

        Joints are found by name; the message may hold others.

        Raises:
            ChunkRefused: a joint is missing, named twice, not finite or far outside its limits,
                or the stamp is no number; the message does not count as new.
        """
        if not np.isfinite(stamp_s):
            raise ChunkRefused(Verdict.NO_REFERENCE, f"the joint states' stamp is {stamp_s} s")
        if stamp_s < self._fresh.since_s:
            return
        ordered = ordered_positions(names, positions, self.limits)
        if self._reference is None or not self._commanded:
            self._reference = Reference(ordered)
        self._measured = ordered
        self._fresh.measured.renew(stamp_s)

    def sample(self, now_s: float) -> tuple[Array, Array] | None:
        """Return position and velocity (D,) commanded now; None before the first joint states.

        In a dry run nothing is commanded: where the joints are, at rest.
        """
        if self._reference is None or self._measured is None:
            return None
        if self.dry_run:
            return self._measured.copy(), np.zeros_like(self._measured)
        return self._reference.sample(now_s)

    def executing(self, now_s: float) -> bool:
        """Return whether a trajectory is running."""
        return self._reference is not None and now_s < self._end_s

    def receive(self, request: Request, now_s: float) -> Plan:
        """Return the plan for a chunk and follow it from now on.

        Raises:
            ChunkRefused: nothing changes, the arms go on with the old trajectory, to rest; if
                ``verdict.brakes``, the caller should :meth:`hold`.
        """
        try:
            running = self._check(request, now_s)
            made, progress = self._planner.chunk(request, running, now_s, self._speed)
        except ChunkRefused:
            self._ledger.refuse()
            raise
        self._ledger.accept(made.start_s, now_s)
        self._follow(made, now_s)
        remaining = progress.last_step - progress.at(made.start_s)
        self._count.run(made.start_s, remaining, progress.step_period_s)
        self._progress, self._braking = progress, False
        self._fresh.observed_s = request.observation_s
        return made

    def refuse(self, verdict: Verdict, message: str) -> ChunkRefused:
        """Count a chunk refused for what only the caller knows; return what to raise."""
        self._ledger.refuse()
        return ChunkRefused(verdict, message)

    def hold(self, now_s: float) -> Plan | None:
        """Brake to rest as fast as the limits allow and follow no chunk any more.

        Returns:
            The plan; None if the arms rest, brake already or are not known, and in a dry run.
        """
        self._ledger.supersede(now_s)
        start_s = self._leave(now_s)
        if self.dry_run:
            self._end_s = min(self._end_s, start_s)
        resting = self._braking or start_s >= self._end_s
        if self._reference is None or resting or self._fresh.jumped(now_s):
            return None
        made = self._planner.brake(Running(self._reference, self._count), start_s, now_s)
        self._follow(made, now_s)
        self._braking = True
        return made

    def stop(self, reason: str, now_s: float) -> Plan | None:
        """Hold, and refuse chunks until :meth:`resume`; the first reason is kept."""
        self._stop_reason = self._stop_reason or reason or "stopped without a reason"
        return self.hold(now_s)

    def resume(self) -> None:
        """Take chunks again after :meth:`stop`."""
        self._stop_reason = ""

    def _check(self, request: Request, now_s: float) -> Running:
        """Return what the chunk joins if it may be planned."""
        if self._stop_reason:
            raise ChunkRefused(
                Verdict.NOT_ACTIVE, f"the arms are stopped ({self._stop_reason}): resume first"
            )
        self._fresh.check_clock(now_s)
        check_identity(request, self.tokenizer, self.limits)
        check_content(request, self.tokenizer)
        self._fresh.check_measured(now_s)
        self._fresh.check_observation(request.observation_s, now_s)
        if self._reference is None:
            raise ChunkRefused(Verdict.NO_REFERENCE, "there were no joint states since the reset")
        still = self._measured if self.dry_run else None
        return Running(self._reference, self._count, still)

    def _follow(self, made: Plan, now_s: float) -> None:
        """Command ``made`` from now on."""
        if self.dry_run:
            self._reference = Reference(made.spline.positions[0])
        self._reference.replace(made.joined, made.stamp_s, now_s)
        self._commanded = True
        self._end_s = made.end_s
        self._fresh.newest_s = now_s

    def _leave(self, now_s: float) -> float:
        """Follow no chunk from the next joining on; return when that is."""
        start_s = now_s + self._settings.lead_s
        if self._reference is not None:
            start_s = joining_time(self._reference, now_s, self._settings.lead_s)
        self._count.stop(start_s)
        if self._progress is not None:
            self._progress = self._progress.ended(start_s)
        return start_s
