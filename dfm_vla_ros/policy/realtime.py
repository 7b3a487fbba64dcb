"""Real-time chunking: what a new chunk keeps of the running one.

While the network thinks, the arms go on along the running chunk. The steps that will have been
executed when the new chunk arrives can no longer be changed, so they are put into the sequence as
clean tokens and held while the other steps are refined (Black, Galliker and Levine 2025, arXiv
2506.07339, do so by guiding a continuous flow; in a discrete one a token is simply not noised).
The rest of the running chunk may serve as a start: re-noised to t0 instead of pure noise.
:class:`Continuation` says which tokens those are, :class:`Pace` when to look next.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.policy.types import Chunk, Guidance
from dfm_vla_ros.robot.chunks import JoinMode
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
"""A look may come this much early: image stamps jitter."""


class RealtimeError(DfmVlaError):
    """A setting of the joining of chunks that makes no sense."""


class Tokenizer(Protocol):
    """What is needed of an action tokenizer."""

    horizon: int
    per_step: bool

    def encode(self, targets: Array, reference: Array) -> NDArray[np.int64]:
        """Return tokens (H, D)."""

    def decode(self, tokens: NDArray[np.integer], reference: Array) -> Array:
        """Return targets (H, D)."""


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
        self._kept: Array | None = None

    def remember(self, goal_id: str, chunk_id: int, chunk: Chunk) -> None:
        """Keep a chunk that is sent to the executor; the last few are kept.

        Its committed steps are remembered as the last guidance had them, not as tokens: exactly.
        """
        targets = self._tokenizer.decode(chunk.tokens, chunk.reference)
        kept = chunk.committed_steps
        if kept and self._kept is not None:
            targets[:kept] = self._kept[:kept]
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
        mask = np.zeros(tokens.shape, dtype=bool)
        mask[:count] = True
        self._kept = targets
        return Guidance(mask, tokens, self._t0, count)


class Pace:
    """When to look next, and how long inference takes; all times on one clock [s]."""

    def __init__(
        self, mode: JoinMode, execute_steps: int, horizon: int, control_period_s: float
    ) -> None:
        """Look again once ``execute_steps`` of a chunk of ``horizon`` steps are executed.

        Raises:
            RealtimeError: ``execute_steps`` is not within 1 .. ``horizon``.
        """
        if not 1 <= execute_steps <= horizon:
            raise RealtimeError(f"execute_steps is {execute_steps}; give 1 .. {horizon}")
        self.mode = JoinMode(mode)
        self._execute_steps, self._horizon = execute_steps, horizon
        self._period_s = control_period_s
        self._first_s = 0.0
        self._times: deque[float] = deque(maxlen=10)
        self._looked_s = self._sent_s = -np.inf
        self._sent = ("", 0)

    @property
    def expected_inference_s(self) -> float:
        """Time from a look to its chunk: the largest of the last ten.

        The first, cold one counts only until there is another; 0 before it.
        """
        return max(self._times, default=self._first_s)

    @property
    def expected_interval_s(self) -> float:
        """Time from one chunk to the next at full speed; 0 while unknown."""
        inference_s = self.expected_inference_s
        if inference_s == 0:
            return 0.0
        ahead_s = self._horizon * self._period_s - self._enough_s(self._period_s)
        return max(inference_s, min(self._execute_steps * self._period_s, ahead_s))

    @property
    def request_steps(self) -> int:
        """What a chunk's ``execute_steps`` says: 0, all, unless it has to end at rest before."""
        return self._execute_steps if self.mode == JoinMode.SYNCHRONOUS else 0

    def arrival_s(self, now_s: float) -> float:
        """Return when the chunk of a look at ``now_s`` is expected to be joined."""
        return now_s + self.expected_inference_s + MARGIN_S

    def looked(self, now_s: float) -> None:
        """An inference begins on an observation of ``now_s``."""
        self._looked_s = now_s

    def sent(self, goal_id: str, chunk_id: int, now_s: float) -> None:
        """The chunk of the last look was published at ``now_s``."""
        duration_s = now_s - self._looked_s
        if self._first_s == 0:
            self._first_s = duration_s
        else:
            self._times.append(duration_s)
        self._sent, self._sent_s = (goal_id, chunk_id), now_s

    def due(self, now_s: float, progress: Progress | None) -> bool:
        """Return whether to look at ``now_s``, provided that no inference is under way.

        Args:
            now_s: time of the observation.
            progress: of the chunk that the executor follows; None if it follows none.
        """
        if now_s < self._looked_s + self._period_s - STAMP_TOLERANCE_S:
            return False
        followed = progress is not None and (progress.goal_id, progress.chunk_id) == self._sent
        if not followed and now_s < self._sent_s + REPLY_S:
            return False
        if progress is None or progress.step_period_s <= 0:
            return True
        soon_s = now_s + STAMP_TOLERANCE_S
        if self.mode == JoinMode.SYNCHRONOUS:
            return progress.at(now_s) >= progress.last_step - ROUNDING
        if progress.at(soon_s) >= min(self._execute_steps, progress.last_step) - ROUNDING:
            return True
        left_s = (progress.last_step - progress.at(soon_s)) * progress.step_period_s
        return left_s <= self._enough_s(progress.step_period_s)

    def _enough_s(self, step_period_s: float) -> float:
        """Return the motion that must be left at a look, one step in reserve."""
        return self.expected_inference_s + step_period_s
