"""Real-time chunking: what a new chunk keeps of the running one.

While the network thinks, the arms go on along the running chunk. The steps that will have been
executed when the new chunk arrives can no longer be changed, so they are put into the sequence as
clean tokens and held while the other steps are refined (Black, Galliker and Levine 2025, arXiv
2506.07339, do so by guiding a continuous flow; in a discrete one a token is simply not noised).
The rest of the running chunk may serve as a start: re-noised to t0 instead of pure noise.
:class:`Continuation` says which tokens those are; :class:`RealtimeSession` is the loop that node
and evaluation run, and says when the next chunk is due.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.policy.session import ChunkSession, PolicyCall
from dfm_vla_ros.policy.types import Chunk, Guidance, Observation
from dfm_vla_ros.robot import chunks
from dfm_vla_ros.robot.chunks import JoinMode, Request
from dfm_vla_ros.robot.progress import Progress

Array = NDArray[np.float64]

REMEMBERED = 8
"""Chunks: the running one, those under way and those that were refused."""
ROUNDING = 1e-6
"""Steps that do not count."""
FIRST_STEP = 0.5
"""The executor drops a step due sooner than this after the joining; the next one is committed
too, so that the arms leave the running chunk where they are on it."""
MARGIN_S = 0.04
"""From the end of an inference to the joining of its chunk: transport and the executor's lead."""
REPLY_S = 0.1
"""A chunk that the executor has not taken by then counts as refused."""
STAMP_TOLERANCE_S = 0.01
"""An observation may come this much early: image stamps jitter."""


class RealtimeError(DfmVlaError):
    """A setting of the joining of chunks that makes no sense."""


class Tokenizer(chunks.Tokenizer, Protocol):
    """An action tokenizer that can also encode."""

    per_step: bool

    def encode(self, targets: Array, reference: Array) -> NDArray[np.int64]:
        """Return tokens (H, D)."""


@dataclass(frozen=True)
class _Running:
    """A chunk that the executor may be following."""

    targets: Array
    reference: Array

    def at(self, steps: Array, last_step: int) -> Array:
        """Return positions (K, D) at ``steps`` (K,) since its observation; resting at the last."""
        points = np.concatenate([self.reference[None], self.targets[:last_step]])
        knots = np.arange(len(points))
        return np.stack([np.interp(steps, knots, column) for column in points.T], axis=1)


def committing(
    tokens: NDArray[np.int64],
    steps: int,
    start_t0: float | None = None,
    targets: Array | None = None,
) -> Guidance:
    """Return the guidance that commits the first ``steps`` of ``tokens`` (H, D)."""
    committed = np.zeros(tokens.shape, dtype=bool)
    committed[:steps] = True
    return Guidance(committed, tokens, start_t0, steps, targets)


class Continuation:
    """What of the running chunk the next one must keep."""

    def __init__(
        self, tokenizer: Tokenizer, mode: JoinMode, warm_start_t0: float | None = None
    ) -> None:
        """Keep steps in mode RTC only; start the free ones at ``warm_start_t0``, None from noise.

        Raises:
            RealtimeError: ``warm_start_t0`` is not within (0, 1).
        """
        if warm_start_t0 is not None and not 0 < warm_start_t0 < 1:
            raise RealtimeError(
                f"the warm start is {warm_start_t0}; give a time t0 between 0 (noise) and 1 "
                "(the running chunk), or none"
            )
        self._tokenizer, self.mode, self._t0 = tokenizer, JoinMode(mode), warm_start_t0
        self._chunks: OrderedDict[tuple[str, int], _Running] = OrderedDict()

    def clear(self) -> None:
        """Continue no chunk sent so far."""
        self._chunks.clear()

    def remember(
        self, goal_id: str, chunk_id: int, chunk: Chunk, guidance: Guidance | None = None
    ) -> None:
        """Keep a chunk that is sent to the executor; the last few are kept.

        Its committed steps are remembered as ``guidance`` had them, not as tokens: exactly.
        """
        targets = self._tokenizer.decode(chunk.tokens, chunk.reference)
        kept = chunk.committed_steps
        if kept and guidance is not None and guidance.targets is not None:
            targets[:kept] = guidance.targets[:kept]
        self._chunks[goal_id, chunk_id] = _Running(targets, np.array(chunk.reference))
        while len(self._chunks) > REMEMBERED:
            self._chunks.popitem(last=False)

    def guidance(
        self, progress: Progress | None, observation_s: float, commanded: Array, arrival_s: float
    ) -> Guidance | None:
        """Return what the chunk of an observation must keep, None if it is free.

        Row k of the guidance (k = 1..H) is where the running chunk is k steps after the
        observation: linear between its steps, at rest beyond its last. Committed are the steps
        executed until the new chunk is joined and the one that they go to then,
        ``k <= ceil((arrival - observation) / period + FIRST_STEP)``, as far as the running chunk
        goes; one step at least stays free. A target beyond the tokens' range is committed as the
        last token of the range: the arms go on along the running chunk itself.

        Args:
            progress: of the chunk that the executor follows; None if it follows none.
            observation_s: when the observation was made [s].
            commanded: (D,) commanded then, what the new tokens count from [rad], grippers [m].
            arrival_s: when the new chunk is expected to take over, on the same clock [s].
        """
        if self.mode != JoinMode.RTC or progress is None or progress.step_period_s <= 0:
            return None
        if not self._tokenizer.per_step:  # no token stands for the committed steps alone
            return None
        running = self._chunks.get((progress.goal_id, progress.chunk_id))
        phase = progress.at(observation_s)
        left = progress.last_step - phase
        if running is None or left <= ROUNDING:
            return None
        horizon = self._tokenizer.horizon
        targets = running.at(phase + np.arange(1, horizon + 1), progress.last_step)
        tokens = self._tokenizer.encode(targets, commanded)
        executed = (arrival_s - observation_s) / progress.step_period_s
        wanted = ceil(executed + FIRST_STEP - ROUNDING)
        count = max(0, min(wanted, int(left + ROUNDING), horizon - 1))
        return committing(tokens, count, self._t0, targets)


class RealtimeSession(ChunkSession):
    """The loop of a policy whose chunks an executor follows while the next one is made.

    observation -> ``due``? -> ``ask`` (guidance, seed) -> the policy acts -> ``accept`` (number,
    account) -> request to the executor, whose progress is the next call's guidance. All times are
    on one clock [s].

    Attributes:
        expected_inference_s: time from an observation to its chunk, the largest of the last ten.
            The first, cold one counts only until there is another; 0 before it.
        expected_interval_s: time from one chunk to the next at full speed; 0 while unknown.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        mode: JoinMode,
        execution_horizon: int,
        warm_start_t0: float | None = None,
    ) -> None:
        """Make chunks in the tokens of ``tokenizer``; ask again after ``execution_horizon`` steps.

        Raises:
            RealtimeError: ``execution_horizon`` is not within 1 .. the tokenizer's horizon, or
                ``warm_start_t0`` is out of range; see Continuation.
        """
        horizon = tokenizer.horizon
        if not 1 <= execution_horizon <= horizon:
            raise RealtimeError(f"execute_steps is {execution_horizon}; give 1 .. {horizon}")
        super().__init__(execution_horizon)
        self.mode, self._tokenizer, self._hash = JoinMode(mode), tokenizer, tokenizer.hash
        self._continuation = Continuation(tokenizer, mode, warm_start_t0)
        self.expected_inference_s = self.expected_interval_s = 0.0
        self._first_s = 0.0
        self._times: deque[float] = deque(maxlen=10)
        self._asked_s = self._sent_s = -np.inf
        self._sent = ("", 0)

    def hold(self) -> None:
        """Drop the call under way, and continue no chunk made so far: the arms are stopped."""
        super().hold()
        self._continuation.clear()

    def due(self, now_s: float, progress: Progress | None) -> bool:
        """Return whether to use the observation of ``now_s``, while no call is under way.

        A new goal does not wait; after that a chunk is due once its predecessor's execution
        horizon is done, or while the motion left lasts as long as inference, one step in reserve.

        Args:
            now_s: time of the observation.
            progress: of the chunk that the executor follows; None if it follows none.
        """
        synchronous = self.mode == JoinMode.SYNCHRONOUS
        if self.calls == 0 and not synchronous:
            return True
        if now_s < self._asked_s + self._tokenizer.control_period_s - STAMP_TOLERANCE_S:
            return False
        followed = progress is not None and (progress.goal_id, progress.chunk_id) == self._sent
        if not followed and now_s < self._sent_s + REPLY_S:
            return False
        if progress is None or progress.step_period_s <= 0:
            return True
        if synchronous:
            return progress.at(now_s) >= progress.last_step - ROUNDING
        executed, last = progress.at(now_s + STAMP_TOLERANCE_S), progress.last_step
        if executed >= min(self.execution_horizon, last) - ROUNDING:
            return True
        left_s = (last - executed) * progress.step_period_s
        return left_s <= self.expected_inference_s + progress.step_period_s

    def ask(
        self, observation: Observation, observed_s: float, progress: Progress | None
    ) -> PolicyCall:
        """Return the policy call for an observation of ``observed_s`` [s].

        ``progress`` is of the chunk that the executor follows, None if it follows none.
        """
        arrival_s = observed_s + self.expected_inference_s + MARGIN_S
        guidance = self._continuation.guidance(
            progress, observed_s, observation.commanded, arrival_s
        )
        self._asked_s, seed = observed_s, self._next_seed()
        return PolicyCall(observation, seed, guidance, observed_s, self.goal_id, self.holds)

    def accept(self, call: PolicyCall, chunk: Chunk, now_s: float) -> Request | None:
        """Return what the chunk of ``call`` asks of the executor; None: it came too late."""
        if (call.goal_id, call.holds) != (self.goal_id, self.holds):
            self.dropped += 1
            return None
        number = self._count(chunk.inference_s)
        self._measure(now_s)
        self._sent, self._sent_s = (self.goal_id, number), now_s
        self._continuation.remember(self.goal_id, number, chunk, call.guidance)
        known = self._tokenizer
        return Request(
            self._hash,
            tuple(known.joint_names),
            known.horizon,
            chunk.tokens.reshape(-1),
            chunk.reference,
            known.control_period_s,
            call.observed_s,
            self.mode,
            chunk.committed_steps,
            self.execution_horizon if self.mode == JoinMode.SYNCHRONOUS else 0,
            self.expected_interval_s,
            self.goal_id,
            number,
        )

    def _measure(self, now_s: float) -> None:
        """Learn how long inference takes, and how long after another chunks come."""
        duration_s = now_s - self._asked_s
        if self._first_s == 0:
            self._first_s = duration_s
        else:
            self._times.append(duration_s)
        inference_s = self.expected_inference_s = max(self._times, default=self._first_s)
        period_s = self._tokenizer.control_period_s
        ahead_s = self._tokenizer.horizon * period_s - (inference_s + period_s)
        interval_s = max(inference_s, min(self.execution_horizon * period_s, ahead_s))
        self.expected_interval_s = interval_s if inference_s else 0.0
