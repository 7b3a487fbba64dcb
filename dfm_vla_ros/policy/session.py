"""The loop around a policy: ask for a chunk, number it, keep account of it; numpy alone.

Every loop of this project runs one of these sessions: the node and the evaluation a
``policy.realtime.RealtimeSession``, whose arms move while the policy thinks, the simulators of
benchmarks a :class:`SteppedSession`, which waits for it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.policy.types import Chunk, Guidance, Observation

Array = NDArray[np.float64]
Act = Callable[..., Chunk]
"""``Policy.act``: of observation, seed and guidance, and whether to trace."""

TIMES = 100
"""Policy calls whose duration is remembered."""


class SessionError(DfmVlaError):
    """A chunk or a setting that no session can go on with."""


@dataclass(frozen=True)
class PolicyCall:
    """A policy call: all that its chunk depends on, and what the chunk is for.

    Attributes:
        observation: what the policy sees.
        seed: of the refinement.
        guidance: what the chunk keeps of the running one; None: nothing.
        observed_s: when the observation was made [s].
        goal_id: the goal that the chunk serves.
        holds: of the session when the call was made: a chunk of before a hold is dropped.
    """

    observation: Observation
    seed: int
    guidance: Guidance | None = None
    observed_s: float = 0.0
    goal_id: str = ""
    holds: int = 0

    def run(self, act: Act, trace: bool = False) -> Chunk:
        """Return the chunk that ``act`` makes, with a trace if asked for."""
        if not trace:
            return act(self.observation, self.seed, self.guidance)
        return act(self.observation, self.seed, self.guidance, True)


class ChunkSession:
    """Numbers the policy calls and chunks of one goal after another.

    Attributes:
        goal_id: of the goal that chunks are made for.
        calls: of the policy for this goal.
        chunks: accepted for this goal.
        published, dropped: chunks of all goals that were accepted, or came too late for that.
        holds: how often the motion was stopped.
        inference_s: durations of the last calls whose chunks were accepted [s].
    """

    def __init__(self, execution_horizon: int) -> None:
        """Execute ``execution_horizon`` steps of a chunk before the next observation."""
        self.execution_horizon = execution_horizon
        self.holds = self.published = self.dropped = 0
        self.inference_s: deque[float] = deque(maxlen=TIMES)
        self.begin("")

    def begin(self, goal_id: str, first_seed: int = 0) -> None:
        """Make chunks for another goal; its calls have the seeds from ``first_seed`` on."""
        self.goal_id, self._first_seed = goal_id, first_seed
        self.calls = self.chunks = 0

    def hold(self) -> None:
        """Drop the calls under way, and continue no chunk made so far: the arms are stopped."""
        self.holds += 1

    def _next_seed(self) -> int:
        self.calls += 1
        return self._first_seed + self.calls - 1

    def _count(self, inference_s: float) -> int:
        """Account for an accepted chunk; return its number."""
        self.chunks += 1
        self.published += 1
        self.inference_s.append(inference_s)
        return self.chunks


class SteppedSession(ChunkSession):
    """For a simulator that stands still while the policy thinks.

    Example:
        >>> session = SteppedSession(2)
        >>> ask = lambda seed: np.full((4, 7), float(seed))
        >>> [session.next_action(ask)[0] for _ in range(4)]
        [0.0, 0.0, 1.0, 1.0]
    """

    def __init__(self, execution_horizon: int = 0) -> None:
        """Execute ``execution_horizon`` actions of a chunk, 0: all of them."""
        super().__init__(execution_horizon)
        self.action_queue: deque[Array] = deque()
        self.policy_s = 0.0
        """Time in all calls of the policy [s]."""

    @property
    def due(self) -> bool:
        """Whether the policy is asked before the next action."""
        return not self.action_queue

    def hold(self) -> None:
        """Begin with a new chunk."""
        super().hold()
        self.action_queue.clear()

    def next_action(self, ask: Callable[[int], Array]) -> Array:
        """Return the next action (D,); ``ask`` gives actions (T, D) for a seed when one is due.

        Raises:
            SessionError: the chunk is shorter than the execution horizon.
        """
        if self.due:
            began_s = time.perf_counter()
            actions = ask(self._next_seed())
            inference_s = time.perf_counter() - began_s
            self.policy_s += inference_s
            self._count(inference_s)
            self.action_queue.extend(self._executed(actions))
        return self.action_queue.popleft()

    def _executed(self, actions: Array) -> Array:
        steps = self.execution_horizon or len(actions)
        if not 0 < steps <= len(actions):
            raise SessionError(
                f"the policy gives {len(actions)} steps, {steps} are executed before it is asked "
                f"again: execute {len(actions)} or less (--replan)"
            )
        return actions[:steps]
