"""An executor whose every plan, sample and count is checked against a second account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from chunk_kinds import CORRUPT, TOKENIZER, make
from controllers import Commands, assert_acceptable, dense

from dfm_vla_ros.robot.executor import ChunkRefused, Executor, JoinMode, Request, Verdict
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.limits import JointLimits
from dfm_vla_ros.robot.plan import Plan, PlanSettings

STREAM_S = 0.005
PERIOD_S = 0.1


class Watched:
    """Runs operations, and asserts after each."""

    def __init__(
        self, limits: JointLimits, settings: PlanSettings, begin: np.ndarray, now_s: float
    ) -> None:
        self.limits, self.settings, self.now = limits, settings, now_s
        self.executor = Executor(TOKENIZER, limits, settings)
        self.executor.measure(JOINT_NAMES, begin, now_s)
        self.commands = Commands(begin)
        self.lower, self.upper = self._bounds(begin)
        self.runs: list[tuple[float, float, float]] = []  # from, to, steps a second
        self.seen = [(now_s, begin.copy())]
        self.received = self.refused = self.plans = 0

    def run(self, operation: tuple[Any, ...]) -> None:
        name, *arguments = operation
        getattr(self, name)(*arguments)
        account = self.executor.account(self.now)
        kinds = (account.executed, account.refused, account.superseded, account.pending)
        assert account.received == sum(kinds) and account.pending in (0, 1)
        assert (account.received, account.refused) == (self.received, self.refused)

    def wait(self, seconds: float, measuring: bool = True) -> None:
        """Let time pass; look at the stream meanwhile."""
        end = self.now + seconds
        while self.now < end:
            last = self.seen[-1][1]
            self.now = min(self.now + STREAM_S, end)
            position, velocity = self.executor.sample(self.now)
            expected = self.commands.at(self.now)
            assert (np.abs(position - expected[0]) <= 1e-8).all()
            assert (np.abs(velocity - expected[1]) <= 1e-5).all()
            largest = self.limits.velocity * STREAM_S * (1 + 1e-6) + 1e-9
            assert (np.abs(position - last) <= largest).all()
            assert (position >= self.lower - 1e-8).all() and (position <= self.upper + 1e-8).all()
            self.seen.append((self.now, position))
            if measuring and len(self.seen) % 4 == 0:
                self.executor.measure(JOINT_NAMES, position, self.now)
        self.seen = self.seen[-2000:]

    def chunk(self, kind: str, seed: int, age_s: float, changes: dict[str, Any]) -> None:
        """Send a chunk whose observation is ``age_s`` old and counts from what was commanded."""
        seen_s, reference = min(self.seen, key=lambda seen: abs(seen[0] - (self.now - age_s)))
        request = make(kind, seed, reference, **{"observation_s": seen_s, **changes})
        self._send(request)

    def corrupt(self, which: str) -> None:
        request = make("smooth", 1, self.seen[-1][1], observation_s=self.now)
        request = Request(**{**vars(request), **CORRUPT[which]})
        assert self._send(request) is None

    def hold(self) -> None:
        self._braked(self.executor.hold)

    def stop(self) -> None:
        self._braked(lambda now: self.executor.stop("the button", now))
        assert self.executor.stop_reason == "the button"

    def resume(self) -> None:
        self.executor.resume()

    def speed(self, value: float) -> None:
        self.executor.speed = value

    def reset(self, seed: int) -> None:
        """Put the robot elsewhere."""
        middle = (self.limits.lower + self.limits.upper) / 2
        way = np.random.default_rng(seed).uniform(-0.5, 0.5, 14)
        begin = middle + way * (self.limits.upper - self.limits.lower)
        self.executor.reset(self.now)
        self.executor.measure(JOINT_NAMES, begin, self.now)
        self.lower, self.upper = self._bounds(begin)
        self.commands, self.runs, self.seen = Commands(begin), [], [(self.now, begin)]

    def measure(self, kind: str) -> None:
        """Joint states in another order, or unusable: what is commanded does not change."""
        position = self.seen[-1][1] + 0.01
        names: tuple[str, ...] = (*JOINT_NAMES[::-1], "wheel")
        values, stamp = np.append(position[::-1], np.nan), self.now
        if kind == "nan":
            values[3] = np.nan
        elif kind == "huge":
            values[3] = 1e300
        elif kind == "short":
            values = values[:5]
        elif kind == "twice":
            names = (*JOINT_NAMES, JOINT_NAMES[0])
        elif kind == "nan stamp":
            stamp = np.nan
        before = self._state()
        try:
            self.executor.measure(names, values, stamp)
            assert kind == "permuted"
        except ChunkRefused:
            assert kind != "permuted"
        assert self._state() == before

    def _send(self, request: Request) -> Plan | None:
        before, self.received = self._state(), self.received + 1
        try:
            made = self.executor.receive(request, self.now)
        except ChunkRefused as refusal:
            self.refused += 1
            assert self._state() == before
            assert (refusal.verdict == Verdict.NOT_ACTIVE) == bool(self.executor.stop_reason)
            return None
        assert not self.executor.stop_reason
        progress = self.executor.progress
        assert (progress.goal_id, progress.chunk_id) == (request.goal_id, request.chunk_id)
        self._follow(made)
        self._check_steps(made, request)
        return made

    def _braked(self, brake: Callable[[float], Plan | None]) -> None:
        made = brake(self.now)
        if made is None:
            assert (np.abs(self.commands.at(self.now + 0.5)[1]) == 0).all()
            self._cut_runs(self.now + self.settings.lead_s)
            return
        self._follow(made)
        self._cut_runs(made.start_s)
        assert self.executor.progress.step_period_s == 0

    def _follow(self, made: Plan) -> None:
        """Check a plan and what it makes of the commands; then command it."""
        self.plans += 1
        assert_acceptable(made, self.now)
        times = np.linspace(self.now, made.start_s, 9)
        old = [self.commands.at(t) for t in times]
        position, velocity = old[0]
        joined = made.joined
        begins = int(np.argmin(np.abs(joined.times_s + made.stamp_s - made.start_s)))
        self._check_limits(
            np.concatenate([[self.now - made.stamp_s], joined.times_s]),
            np.concatenate([position[None], joined.positions]),
            np.concatenate([velocity[None], joined.velocities]),
            begins + 1,
        )
        self.commands.receive(joined, made.stamp_s, self.now)
        for t, (q, v) in zip(times, old, strict=True):
            position, velocity = self.commands.at(t)
            assert (np.abs(position - q) <= 1e-6).all() and (np.abs(velocity - v) <= 1e-4).all()
        assert self.executor.executing(self.now)
        assert (self.commands.at(made.end_s + 1e-9)[1] == 0).all()

    def _bounds(self, begin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The margin is kept unless the motion begins outside it; then it goes no further."""
        inner = self.limits.shrunk(self.settings.margin_rad)
        return np.minimum(inner.lower, begin), np.maximum(inner.upper, begin)

    def _check_limits(
        self, times: np.ndarray, points: np.ndarray, speeds: np.ndarray, begins: int
    ) -> None:
        limits = self.limits
        q, v, a, j = (np.abs(x) if i else x for i, x in enumerate(dense(times, points, speeds)))
        new = dense(times[begins:], points[begins:], speeds[begins:])[0]
        lower, upper = self._bounds(points[begins])
        self.lower, self.upper = np.minimum(lower, self.lower), np.maximum(upper, self.upper)
        if not self.executor.progress.step_period_s:  # braking cannot help what is under way
            way = speeds[begins] * np.abs(speeds[begins]) / (2 * limits.acceleration)
            lower = np.minimum(lower, points[begins] + way)
            upper = np.maximum(upper, points[begins] + way)
        assert (new >= lower - 1e-8).all() and (new <= upper + 1e-8).all()
        assert (q >= self.lower - 1e-8).all() and (q <= self.upper + 1e-8).all()
        assert (v <= limits.velocity * (1 + 1e-6)).all()
        assert (a <= limits.acceleration * (1 + 1e-6) + 1e-3).all()
        # A brake before a position limit may need more jerk; such a joint stops before the others.
        follows = self.executor.progress.step_period_s > 0
        smooth = follows | (np.abs(speeds[-2]) > 1e-3)
        assert (j <= limits.jerk * 1.001 + 1.0)[:, smooth].all()

    def _check_steps(self, made: Plan, request: Request) -> None:
        """Steps are due where the second count says, and targets are reached then."""
        progress = self.executor.progress
        consumed = max(self._steps(made.start_s) - self._steps(request.observation_s), 0.0)
        period = PERIOD_S * made.time_scale
        assert abs(progress.step_period_s - period) < 1e-9
        assert abs(made.start_s - progress.step_zero_s - consumed * period) < 1e-6
        assert abs(made.end_s - progress.step_zero_s - progress.last_step * period) < 1e-6
        assert progress.last_step == (request.execute_steps or 8)
        self._cut_runs(made.start_s)
        self.runs.append((made.start_s, made.end_s, 1 / period))
        if request.mode in (JoinMode.LATEST, JoinMode.SYNCHRONOUS):
            self._check_targets(made, request)

    def _check_targets(self, made: Plan, request: Request) -> None:
        inner = self.limits.shrunk(self.settings.margin_rad)
        targets = TOKENIZER.decode(request.tokens.reshape(8, 14), request.reference)
        progress = self.executor.progress
        for step in range(made.first_step + 1, progress.last_step + 1):
            at = self.commands.at(progress.step_zero_s + step * progress.step_period_s)[0]
            wanted = np.clip(targets[step - 1], inner.lower, inner.upper)
            np.testing.assert_allclose(at, wanted, atol=1e-6)

    def _steps(self, t_s: float) -> float:
        return sum((min(t_s, end) - start) * rate for start, end, rate in self.runs if t_s > start)

    def _cut_runs(self, t_s: float) -> None:
        self.runs = [(a, min(b, t_s), rate) for a, b, rate in self.runs if a < t_s]

    def _state(self) -> tuple[Any, ...]:
        ahead = [self.executor.sample(self.now + dt) for dt in (0.0, 0.013, 0.1, 0.4, 2.0)]
        rows = tuple(np.concatenate(both).tobytes() for both in ahead)
        return rows, self.executor.progress, self.executor.executing(self.now + 0.1)
