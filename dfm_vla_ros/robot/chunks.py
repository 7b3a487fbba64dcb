"""What a chunk asks of the executor, and why it may be refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError

Array = NDArray[np.float64]


class Verdict(IntEnum):
    """What became of a chunk; the numbers are those of ExecutorStatus."""

    OK = 0
    UNKNOWN_TOKENIZER = 1
    WRONG_JOINTS = 2
    MALFORMED = 3
    LIMIT_VIOLATED = 4
    TOO_LATE = 5
    NO_REFERENCE = 6
    NOT_ACTIVE = 7
    COLLISION = 8
    CONFLICT = 9
    CLOCK_JUMPED = 10

    @property
    def brakes(self) -> bool:
        """Whether the arms should brake: what runs can no longer be relied on."""
        return self not in (Verdict.OK, Verdict.TOO_LATE, Verdict.NOT_ACTIVE)


class ChunkRefused(DfmVlaError):
    """The chunk is refused whole, and why."""

    def __init__(self, verdict: Verdict, message: str) -> None:
        """Keep the verdict beside the message."""
        super().__init__(message)
        self.verdict = verdict


class JoinMode(IntEnum):
    """How a chunk joins the running one; the numbers are those of ActionChunk.

    LATEST: all steps ahead are the new chunk's. SYNCHRONOUS: the same, made at rest. BLEND: steps
    that the old plan covers fade from its targets to the new ones. RTC: the committed steps are
    the old plan's (real-time chunking).
    """

    LATEST = 0
    SYNCHRONOUS = 1
    BLEND = 2
    RTC = 3


class Tokenizer(Protocol):
    """What the executor needs of an action tokenizer."""

    hash: str
    joint_names: tuple[str, ...]
    horizon: int
    token_count: int
    vocabulary_size: int
    control_period_s: float

    def decode(self, tokens: NDArray[np.integer], reference: Array) -> Array:
        """Return targets (H, D) for ``token_count`` tokens."""


@dataclass(frozen=True)
class Request:
    """The parts of an ActionChunk that decide what the arms do.

    Attributes:
        tokens: (N,), as many as the tokenizer makes of a chunk; H * D, step-major, for most.
        reference: (D,) commanded positions that the tokens count from [rad], grippers [m].
        control_period_s: between steps [s].
        observation_s: when the observation was made; step k is due once k control steps have been
            executed since [s].
        mode: how the chunk joins the running one.
        committed_steps: RTC: steps that repeat the running chunk's.
        execute_steps: steps to execute, then rest; 0: all.
        expected_interval_s: from this chunk to the next; 0: unknown [s].
        goal_id, chunk_id: which chunk of which goal, as reported in :class:`Progress`.
    """

    tokenizer_hash: str
    joint_names: tuple[str, ...]
    horizon: int
    tokens: NDArray[np.integer]
    reference: Array
    control_period_s: float
    observation_s: float
    mode: JoinMode = JoinMode.LATEST
    committed_steps: int = 0
    execute_steps: int = 0
    expected_interval_s: float = 0.0
    goal_id: str = ""
    chunk_id: int = 0
