"""Episodes in the closed loop without ROS: the same policy, planner and twin, one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dfm_vla_ros.policy.types import Chunk, Observation
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.limits import JointLimits
from dfm_vla_ros.robot.plan import PlanRefused, plan
from dfm_vla_ros.robot.reference import Reference
from dfm_vla_ros.sim.twin import Twin
from dfm_vla_ros.tokens.action import ActionTokenizer

Act = Callable[[Observation, int], Chunk]


@dataclass(frozen=True)
class LoopConfig:
    """How the loop runs.

    Attributes:
        execute_steps: control periods between observations.
        latency_s: simulated time from an observation to the start of its chunk [s].
        timeout_s: an episode that takes longer is a failure [s].
    """

    execute_steps: int = 4
    latency_s: float = 0.1
    timeout_s: float = 20.0


@dataclass(frozen=True)
class EpisodeResult:
    """One episode.

    Attributes:
        task, seed: which one.
        success: within the time.
        progress: largest that the task reported.
        seconds: simulated time to success or timeout.
        chunks: executed.
        refused: chunks that the planner refused.
        inference_s: median time of a policy call.
    """

    task: str
    seed: int
    success: bool
    progress: float
    seconds: float
    chunks: int
    refused: int
    inference_s: float


class Loop:
    """Runs episodes of a policy in one twin."""

    def __init__(
        self,
        twin: Twin,
        act: Act,
        tokenizer: ActionTokenizer,
        limits: JointLimits,
        config: LoopConfig = LoopConfig(),
    ) -> None:
        """Use ``act`` (``Policy.act``), whose tokens ``tokenizer`` decodes."""
        self.twin, self.act, self.tokenizer = twin, act, tokenizer
        self.limits, self.config = limits, config

    def run(self, task: str, seed: int) -> EpisodeResult:
        """Run one episode from its reset to success or timeout."""
        twin, config = self.twin, self.config
        twin.reset(task, seed)
        reference = Reference(twin.commanded)
        pending: tuple[float, float, Chunk] | None = None
        next_look, refused, progress, times = 0.0, 0, 0.0, []
        while twin.time_s < config.timeout_s and not twin.status().success:
            now = twin.time_s
            if now >= next_look - 1e-9:
                chunk = self._look(reference, now, seed * 1000 + len(times))
                times.append(chunk.inference_s)
                pending = (now, now + config.latency_s, chunk)
                next_look = now + config.execute_steps * self.tokenizer.control_period_s
            if pending and now >= pending[1] - 1e-9:
                refused += not self._follow(reference, pending[2], pending[0], now)
                pending = None
            twin.command(np.clip(reference.sample(now)[0], self.limits.lower, self.limits.upper))
            twin.step()
            progress = max(progress, twin.status().progress)
        status = twin.status()
        return EpisodeResult(
            task,
            seed,
            status.success,
            progress,
            twin.time_s,
            len(times),
            refused,
            float(np.median(times)) if times else 0.0,
        )

    def _look(self, reference: Reference, now: float, seed: int) -> Chunk:
        observation = Observation(
            self.twin.render(),
            self.twin.positions,
            reference.sample(now)[0],
            self.twin.instruction,
        )
        return self.act(observation, seed)

    def _follow(self, reference: Reference, chunk: Chunk, seen: float, now: float) -> bool:
        """Replace the running reference by ``chunk``; return whether the planner took it."""
        targets = self.tokenizer.decode(chunk.tokens, chunk.reference)
        due = seen + self.tokenizer.control_period_s * np.arange(1, len(targets) + 1)
        position, velocity = reference.sample(now)
        try:
            planned = plan(targets, due, now, position, velocity, self.limits)
        except PlanRefused:
            return False
        assert planned.joined.joint_names == JOINT_NAMES
        reference.replace(planned.joined, planned.stamp_s, now)
        return True
