"""What goes into a policy and what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Observation:
    """One moment.

    Attributes:
        images: camera name -> (H, W, 3) uint8 RGB, any size.
        positions: (D,) measured joints [rad], grippers [m], in the order of ``robot.joints``.
        commanded: (D,) positions commanded at this moment.
        instruction: the language goal.
        poses: (P,) where the objects are, which the twin knows, for policies that see them
            (``Policy.pose_names``).
        image_stamps_s: camera -> when its image was taken [s], where that is known.
    """

    images: Mapping[str, NDArray[np.uint8]]
    positions: NDArray[np.float64]
    commanded: NDArray[np.float64]
    instruction: str
    poses: NDArray[np.float64] | None = None
    image_stamps_s: Mapping[str, float] = field(default_factory=dict)


def grey_observation(
    cameras: Iterable[str], size: int, joints: int, instruction: str
) -> Observation:
    """Return a moment of grey ``size`` x ``size`` px images with ``joints`` joints at zero."""
    grey = np.full((size, size, 3), 128, dtype=np.uint8)
    zeros = np.zeros(joints)
    return Observation(dict.fromkeys(cameras, grey), zeros, zeros, instruction)


@dataclass(frozen=True)
class Guidance:
    """What a chunk must keep of the one that is running; see ``policy.realtime``.

    Attributes:
        committed: (horizon, D) bool: tokens that come out as they are given.
        tokens: (horizon, D) int64: the running chunk as seen from the new observation.
        start_t0: time in (0, 1) that the tokens are re-noised to and refined from; None: the free
            ones start as noise.
        committed_steps: number of first steps that are committed whole.
        targets: (horizon, D) what the tokens stand for, exactly, where that is known.
    """

    committed: NDArray[np.bool_]
    tokens: NDArray[np.int64]
    start_t0: float | None
    committed_steps: int
    targets: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Trace:
    """How a chunk was decoded: E network evaluations over its N tokens.

    Attributes:
        kinds: E names: ``refinement``, ``validation`` or the decoder's own word.
        times: (E,) t in [0, 1] that the network was told.
        tokens: (E, N) int64 after each evaluation; the last row is the chunk.
        targets: (E, N) int64 predicted x_1.
        jumped: (E, N) bool: tokens that the evaluation changed.
        confidence: (E, N) probability of the target.
        committed: (N,) bool: tokens that were held.
    """

    kinds: tuple[str, ...]
    times: NDArray[np.float64]
    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    jumped: NDArray[np.bool_]
    confidence: NDArray[np.float32]
    committed: NDArray[np.bool_]


@dataclass(frozen=True)
class Chunk:
    """Action tokens of the next ``horizon`` control steps.

    Attributes:
        tokens: (horizon, D) int64.
        reference: (D,) the commanded positions that the tokens are relative to.
        inference_s: time the call took [s].
        evaluations: network evaluations over the action tokens.
        committed_steps: first steps that repeat the running chunk.
        trace: every evaluation, if it was asked for.
    """

    tokens: NDArray[np.int64]
    reference: NDArray[np.float64]
    inference_s: float
    evaluations: int
    committed_steps: int = 0
    trace: Trace | None = None


MODES: tuple[str, ...] = ("rtc", "blend", "latest", "synchronous")
"""Names of ``robot.chunks.JoinMode``, in lower case."""
MODE = "rtc"
WARM_START = 0.0
"""Time t0 that the running chunk is re-noised to; 0: the free steps start as noise."""
