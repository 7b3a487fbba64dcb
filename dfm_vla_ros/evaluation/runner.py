"""Episodes in the closed loop without ROS: the same policy, executor and twin, one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.evaluation.motion import Motion, MotionRecord, State
from dfm_vla_ros.evaluation.statistics import wilson
from dfm_vla_ros.model.folder import CheckpointError
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.realtime import RealtimeSession
from dfm_vla_ros.policy.session import Act, PolicyCall
from dfm_vla_ros.policy.types import Chunk, Observation
from dfm_vla_ros.robot.chunks import ChunkRefused, JoinMode, Verdict
from dfm_vla_ros.robot.executor import Executor
from dfm_vla_ros.robot.joints import ARMS, JOINT_NAMES
from dfm_vla_ros.robot.limits import JointLimits
from dfm_vla_ros.robot.model import RobotModel
from dfm_vla_ros.sim.perturbations import PLAIN_SETTING, Setting
from dfm_vla_ros.sim.twin import Twin
from dfm_vla_ros.tokens.action import ActionTokenizer

Watch = Callable[[Mapping[str, NDArray[np.uint8]]], None]
"""Takes camera -> image (H, W, 3) RGB."""

WATCH_PERIOD_S = 0.1
GOAL = "episode"
SUCCESS, TIMEOUT, OTHER = "success", "timeout", "other"
MOVED_RAD = 0.3
SAME_S = 1e-9
"""Times closer than this are one."""


@dataclass(frozen=True)
class LoopConfig:
    """How the loop runs.

    Attributes:
        execute_steps: control steps executed before the next observation.
        latency_s: simulated time from an observation to the arrival of its chunk; the next
            observation is made no sooner [s].
        timeout_s: an episode that takes longer is a failure [s].
        mode: how chunks join.
        warm_start_t0: RTC: time that the running chunk is re-noised to; None: from noise.
        speed: of the executor's slow mode, (0, 1].
    """

    execute_steps: int = 4
    latency_s: float = 0.1
    timeout_s: float = 20.0
    mode: JoinMode = JoinMode.RTC
    warm_start_t0: float | None = None
    speed: float = 1.0


@dataclass(frozen=True)
class EpisodeResult:
    """One episode.

    Attributes:
        task, seed: which one.
        success: within the time.
        progress: largest that the task reported.
        seconds: simulated time to success or timeout.
        chunks: made.
        refused: chunks that the executor refused.
        inference_s: median time of a policy call.
        verdicts: why they were refused -> how many.
        motion: what the commanded motion was like.
        instruction: the sentence that was said.
        ended: why: ``success``, ``timeout``, or ``other``: the task of another task's sentence
            was done instead.
        other_progress: largest of that task; None if no other sentence was said, or what it
            needs is not there.
        moved: arms of which a joint was commanded away from its start by more than
            :data:`MOVED_RAD`.
    """

    task: str
    seed: int
    success: bool
    progress: float
    seconds: float
    chunks: int
    refused: int
    inference_s: float
    verdicts: dict[str, int] = field(default_factory=dict)
    motion: MotionRecord = field(default_factory=MotionRecord)
    instruction: str = ""
    ended: str = TIMEOUT
    other_progress: float | None = None
    moved: tuple[str, ...] = ()


class Loop:
    """Runs episodes of a policy in one twin."""

    def __init__(
        self,
        twin: Twin,
        act: Act,
        tokenizer: ActionTokenizer,
        limits: JointLimits,
        config: LoopConfig = LoopConfig(),
        images: bool = True,
    ) -> None:
        """Use ``act`` (``Policy.act``), whose tokens ``tokenizer`` decodes.

        Without ``images`` nothing is rendered: for a policy that sees object poses alone.
        """
        self.twin, self.act, self.tokenizer = twin, act, tokenizer
        self.limits, self.config, self.images = limits, config, images

    def run(self, task: str, seed: int, watch: Watch | None = None) -> EpisodeResult:
        """Run one episode from its reset to success, timeout or another task's success.

        ``watch`` is shown what the cameras see every ``WATCH_PERIOD_S`` of simulated time.
        """
        twin, progress, next_s = self.twin, 0.0, 0.0
        twin.reset(task, seed)
        episode = _Episode(self, seed)
        start, farthest = twin.commanded, np.zeros(len(JOINT_NAMES))
        while twin.time_s < self.config.timeout_s and not _done(twin):
            if watch is not None and twin.time_s >= next_s - SAME_S:
                watch(twin.render())
                next_s += WATCH_PERIOD_S
            twin.command(episode.command(twin.time_s))
            twin.step()
            farthest = np.maximum(farthest, np.abs(twin.commanded - start))
            progress = max(progress, twin.status().progress)
        times = episode.inference_s
        return EpisodeResult(
            task,
            seed,
            twin.status().success,
            progress,
            twin.time_s,
            len(times),
            sum(episode.verdicts.values()),
            float(np.median(times)) if times else 0.0,
            dict(episode.verdicts),
            episode.motion.record(twin.time_s),
            twin.instruction,
            _done(twin) or TIMEOUT,
            twin.other.progress if twin.other is not None else None,
            tuple(arm for i, arm in enumerate(ARMS) if farthest[7 * i :][:6].max() > MOVED_RAD),
        )


def load_loop(
    checkpoint: Path,
    config: LoopConfig | None = None,
    decoder: dict[str, int] | None = None,
    dark_cameras: Collection[str] = (),
    setting: Setting = PLAIN_SETTING,
) -> Loop:
    """Return a loop of the checkpoint's policy.

    Args:
        checkpoint: folder.
        config: how the loop runs; its ``execute_steps`` are the checkpoint's.
        decoder: ``refinement_steps``, ``validation_steps`` instead of the checkpoint's.
        dark_cameras: that see black.
        setting: of the twin's episodes.

    Raises:
        CheckpointError, TokenizerError: the folder is damaged, or its object poses are not this
            twin's.
    """
    return make_loop(Policy.load(checkpoint, **(decoder or {})), config, dark_cameras, setting)


def make_loop(
    policy: Policy,
    config: LoopConfig | None = None,
    dark_cameras: Collection[str] = (),
    setting: Setting = PLAIN_SETTING,
) -> Loop:
    """Return a loop of ``policy``; see `load_loop`.

    Raises:
        CheckpointError: its object poses are not this twin's.
    """
    if policy.pose_names not in ((), Twin.pose_names):
        raise CheckpointError(
            f"checkpoint {policy.checkpoint_hash[:12]} sees the poses {policy.pose_names}, this "
            f"twin has {Twin.pose_names}: train again on demonstrations of this twin"
        )
    size = {"camera_size": (policy.image_size,) * 2} if policy.cameras else {}
    twin = Twin(**size, setting=setting)
    twin.dark_cameras = dark_cameras
    limits = RobotModel().limits()
    config = replace(config or LoopConfig(), execute_steps=policy.execute_steps)
    return Loop(twin, policy.act, policy.tokenizer, limits, config, bool(policy.cameras))


def _done(twin: Twin) -> str:
    """Return which task is done, if one is."""
    if twin.status().success:
        return SUCCESS
    return OTHER if twin.other is not None and twin.other.success else ""


class _Episode:
    """Policy and executor between a reset and the end."""

    def __init__(self, loop: Loop, seed: int) -> None:
        config, tokenizer = loop.config, loop.tokenizer
        self._loop, self._twin, self._limits = loop, loop.twin, loop.limits
        self._executor = Executor(tokenizer, loop.limits)
        self._executor.speed = config.speed
        self._session = RealtimeSession(
            tokenizer, config.mode, config.execute_steps, config.warm_start_t0
        )
        self._session.begin(GOAL, seed * 1000)
        self._pending: tuple[PolicyCall, Chunk] | None = None
        self.inference_s: list[float] = []
        self.verdicts: Counter[str] = Counter()
        self.motion = Motion()

    def command(self, now_s: float) -> np.ndarray:
        """Return the positions (D,) to command at ``now_s``."""
        self._executor.measure(JOINT_NAMES, self._twin.positions, now_s)
        self._deliver(now_s)
        if self._pending is None and self._session.due(now_s, self._executor.progress):
            self._ask(now_s)
            self._deliver(now_s)
        state = self._state(now_s)
        self.motion.command(now_s, state, self._executor.executing(now_s))
        return np.clip(state[0], self._limits.lower, self._limits.upper)

    def _state(self, at_s: float) -> State:
        state = self._executor.sample(at_s)
        assert state is not None, "measured before"
        return state

    def _ask(self, now_s: float) -> None:
        """Make a chunk of this moment; it arrives later."""
        twin, loop = self._twin, self._loop
        images = twin.render() if loop.images else {}
        commanded = self._state(now_s)[0]
        observation = Observation(
            images, twin.positions, commanded, twin.instruction, twin.poses()
        )
        call = self._session.ask(observation, now_s, self._executor.progress)
        chunk = call.run(loop.act)
        self.inference_s.append(chunk.inference_s)
        self._pending = call, chunk

    def _deliver(self, now_s: float) -> None:
        """Hand the pending chunk to the executor once its time has come."""
        latency_s = self._loop.config.latency_s
        if self._pending is None or now_s < self._pending[0].observed_s + latency_s - SAME_S:
            return
        request = self._session.accept(*self._pending, now_s)
        self._pending = None
        before = self._state(now_s)
        try:
            plan = self._executor.receive(request, now_s)
        except ChunkRefused as refusal:
            self._refused(refusal.verdict, now_s)
            return
        self.motion.joined(before, self._state, now_s, plan.start_s, plan.time_scale)

    def _refused(self, verdict: Verdict, now_s: float) -> None:
        self.verdicts[verdict.name] += 1
        if verdict.brakes:
            self._executor.hold(now_s)


def summarise(
    task: str,
    results: Sequence[EpisodeResult],
    messages: Mapping[int, str],
    seconds: float | None = None,
) -> dict[str, Any]:
    """Return a task's row of the result, for JSON.

    ``failures`` are ``timeouts`` and ``others`` (another task done instead, where its sentence
    was said); episodes that ended in an error are counted in ``errors`` alone, and the interval
    is of ``successes`` in ``successes + failures``.

    Args:
        task: its name.
        results: of the episodes that ended, in any order.
        messages: seed -> error of the others.
        seconds: that all took [s]; None: not known.
    """
    successes = sum(result.success for result in results)
    ends = Counter(result.ended for result in results)
    times = [result.seconds for result in results if result.success]
    progress = [r.other_progress for r in results if r.other_progress is not None]
    return {
        "task": task,
        "episodes": len(results) + len(messages),
        "successes": successes,
        "failures": len(results) - successes,
        "timeouts": ends[TIMEOUT],
        "others": ends[OTHER],
        "errors": len(messages),
        "messages": dict(messages),
        "interval": list(wilson(successes, len(results))),
        "median_success_s": float(np.median(times)) if times else None,
        "mean_progress": _mean([result.progress for result in results]),
        "mean_other_progress": _mean(progress),
        "arms_moved": dict(Counter("+".join(result.moved) or "none" for result in results)),
        "seconds": seconds,
        "results": [asdict(r) for r in sorted(results, key=lambda r: r.seed)],
    }


def line(row: Mapping[str, Any]) -> str:
    """Return a task's row of the result as one line."""
    done, ended = row["successes"], row["successes"] + row["failures"]
    low, high = row["interval"]
    parts = [
        f"{done}/{ended} = {done / max(1, ended):.0%} [{low:.0%}, {high:.0%}]",
        f"{row['timeouts']} timeouts",
        f"{row['errors']} errors",
    ]
    if row["median_success_s"] is not None:
        parts.insert(1, f"median {row['median_success_s']:.1f} s")
    if row["mean_other_progress"] is not None:
        parts.append(
            f"{row['others']} did the other task (mean progress {row['mean_other_progress']:.2f})"
        )
    moved = ", ".join(f"{arms} {count}" for arms, count in sorted(row["arms_moved"].items()))
    return f"{row['task']}: {', '.join(parts)}; arms that moved: {moved}"


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
