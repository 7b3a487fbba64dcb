"""Seams between chunks: scripted cases without a network, and figures over many episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.evaluation.motion import Motion, MotionRecord
from dfm_vla_ros.policy.realtime import Continuation
from dfm_vla_ros.policy.types import Chunk, Guidance
from dfm_vla_ros.robot.chunks import JoinMode, Request
from dfm_vla_ros.robot.executor import Executor
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.limits import JointLimits
from dfm_vla_ros.tokens.action import ActionTokenizer

Array = NDArray[np.float64]

LARGEST_POSITION_STEP_RAD = 1e-6
LARGEST_VELOCITY_STEP_RAD_S = 1e-4
"""What a seam may be off by: rounding, and what accelerations do between two samples."""

CASES: dict[str, tuple[float, ...]] = {
    "single chunk": (0.0,),
    "two consecutive chunks": (0.0, 1.2),
    "overlapping chunks": (0.0, 0.5, 0.9, 1.3),
}
"""Name -> when observations are made [s]; a chunk of 0.8 s arrives ``LATENCY_S`` after each."""
LATENCY_S = 0.1
TICK_S = 0.005
DISAGREEMENT_RAD = 0.01
"""By so much chunks contradict one another, as a network's do."""


@dataclass(frozen=True)
class Case:
    """What is played: the expert's targets, as tokens, against an executor."""

    tokenizer: ActionTokenizer
    limits: JointLimits
    targets: Array
    mode: JoinMode

    def play(self, looks_s: Sequence[float], seed: int = 0) -> MotionRecord:
        """Return the figures of the motion until it rests.

        Args:
            looks_s: when an observation is made, rising, at least ``LATENCY_S`` apart [s].
            seed: of what chunks contradict one another by.
        """
        run = _Run(self, np.random.default_rng(seed))
        looks, now_s, count = list(looks_s), 0.0, 0
        while looks or run.pending or run.executor.executing(now_s):
            now_s = TICK_S * count
            run.tick(now_s, bool(looks) and now_s >= looks[0] - 1e-9)
            if looks and now_s >= looks[0] - 1e-9:
                looks.pop(0)
            count += 1
        return run.motion.record(now_s)


class _Run:
    """One case in play."""

    def __init__(self, case: Case, rng: np.random.Generator) -> None:
        self._case, self._rng = case, rng
        self.executor = Executor(case.tokenizer, case.limits)
        self._continuation = Continuation(case.tokenizer, case.mode)
        self.motion = Motion()
        self.pending: tuple[float, Chunk] | None = None
        self._guidance: Guidance | None = None
        self._begin, self._count = 0.0, 0

    def tick(self, now_s: float, look: bool) -> None:
        """Take in a chunk that is due, make one if ``look``, command."""
        case = self._case
        state = self.executor.sample(now_s)
        self.executor.measure(JOINT_NAMES, case.targets[0] if state is None else state[0], now_s)
        if self.pending and now_s >= self.pending[0] + LATENCY_S - 1e-9:
            self._deliver(*self.pending, now_s)
            self.pending = None
        if look:
            self.pending = now_s, self._make(now_s)
        self.motion.command(now_s, self.executor.sample(now_s), self.executor.executing(now_s))

    def _make(self, now_s: float) -> Chunk:
        """Return the expert's next targets, off by a little, as tokens."""
        case, progress = self._case, self.executor.progress
        self._begin += 0 if progress is None else progress.at(now_s)
        steps = round(self._begin) + np.arange(1, case.tokenizer.horizon + 1)
        targets = case.targets[np.minimum(steps, len(case.targets) - 1)]
        off = np.where(case.limits.prismatic, 0.0, DISAGREEMENT_RAD)
        targets = targets + self._rng.uniform(-off, off)
        commanded = self.executor.sample(now_s)[0]
        tokens = case.tokenizer.encode(targets, commanded)
        guidance = self._guidance = self._continuation.guidance(
            progress, now_s, commanded, now_s + LATENCY_S + 0.04
        )
        if guidance is None:
            return Chunk(tokens, commanded, 0.0, 0)
        kept = np.where(guidance.committed, guidance.tokens, tokens)
        return Chunk(kept, commanded, 0.0, 0, guidance.committed_steps)

    def _deliver(self, seen_s: float, chunk: Chunk, now_s: float) -> None:
        known = self._case.tokenizer
        self._count += 1
        request = Request(
            known.hash,
            JOINT_NAMES,
            known.horizon,
            chunk.tokens.reshape(-1),
            chunk.reference,
            known.control_period_s,
            seen_s,
            self._case.mode,
            chunk.committed_steps,
            chunk_id=self._count,
        )
        self._continuation.remember("", self._count, chunk, self._guidance)
        before = self.executor.sample(now_s)
        plan = self.executor.receive(request, now_s)
        self.motion.joined(before, self.executor.sample, now_s, plan.start_s, plan.time_scale)


def worst(records: Sequence[MotionRecord]) -> dict[str, float]:
    """Return the largest of every figure, but sums of counts and times.

    Of speed it is the mean, of the acceleration's steps the median.
    """
    rows = [asdict(record) for record in records]
    sums = ("seams", "pauses", "pause_s", "starved_s", "moving_s")
    found: dict[str, float] = {}
    for name in (field.name for field in fields(MotionRecord)):
        values = [row[name] for row in rows]
        found[name] = sum(values) if name in sums else max(values, default=0.0)
    found["speed_scale"] = float(np.mean([record.speed_scale for record in records] or [1.0]))
    bends = [record.seam_acceleration_step_rad_s2 for record in records] or [0.0]
    found["seam_acceleration_step_rad_s2"] = float(np.median(bends))
    return found


def smooth(figures: dict[str, float]) -> bool:
    """Return whether position and velocity are continuous at all seams."""
    return (
        figures["seam_position_step_rad"] <= LARGEST_POSITION_STEP_RAD
        and figures["seam_velocity_step_rad_s"] <= LARGEST_VELOCITY_STEP_RAD_S
    )
