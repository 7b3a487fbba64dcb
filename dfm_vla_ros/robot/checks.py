"""Checks of chunks and joint states before anything is computed with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.chunks import ChunkRefused, JoinMode, Request, Tokenizer, Verdict
from dfm_vla_ros.robot.limits import JointLimits

Array = NDArray[np.float64]

LARGEST = 1e6
"""Of a position [rad, m] or an interval [s]: beyond every robot, and nothing overflows."""


def ordered_positions(
    names: Sequence[str], positions: Sequence[float], limits: JointLimits
) -> Array:
    """Return the positions (D,) of the limits' joints, found by name.

    Raises:
        ChunkRefused: a joint is missing, named twice, not finite or outside by its whole range.
    """
    at = dict(zip(names, positions, strict=False))
    missing = [name for name in limits.names if name not in at]
    if missing:
        raise ChunkRefused(
            Verdict.WRONG_JOINTS,
            f"the joint states lack {missing[0]}; they hold {list(names)}",
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ChunkRefused(Verdict.WRONG_JOINTS, f"the joint states name {twice} twice")
    ordered = np.array([at[name] for name in limits.names], dtype=np.float64)
    if not np.isfinite(ordered).all():
        joint = limits.names[int(np.argmin(np.isfinite(ordered)))]
        raise ChunkRefused(
            Verdict.NO_REFERENCE, f"joint states: {joint} is {at[joint]}, not finite"
        )
    _check_near(ordered, limits)
    return ordered


def _check_near(positions: Array, limits: JointLimits) -> None:
    """Refuse positions that no joint of this robot can have: wrong units or a wrong zero."""
    outside = np.maximum(limits.lower - positions, positions - limits.upper)
    excess = outside - (limits.upper - limits.lower)
    joint = int(np.argmax(excess))
    if excess[joint] > 0:
        raise ChunkRefused(
            Verdict.NO_REFERENCE,
            f"joint states: {limits.names[joint]} is {positions[joint]:.4g} "
            f"{limits.units(joint)}, its limits are {limits.lower[joint]} .. "
            f"{limits.upper[joint]}: check units and zero of the driver",
        )


def check_identity(request: Request, tokenizer: Tokenizer, limits: JointLimits) -> None:
    """Refuse a chunk of another tokenizer or another robot.

    Raises:
        ChunkRefused: as said.
    """
    if request.tokenizer_hash != tokenizer.hash:
        raise ChunkRefused(
            Verdict.UNKNOWN_TOKENIZER,
            f"tokenizer_hash is {request.tokenizer_hash!r}, loaded is "
            f"{tokenizer.hash!r}: give policy and executor the same checkpoint",
        )
    if tuple(request.joint_names) != limits.names:
        raise ChunkRefused(
            Verdict.WRONG_JOINTS,
            f"joint_names are {list(request.joint_names)}, this robot's are {list(limits.names)}",
        )


def check_content(request: Request, tokenizer: Tokenizer) -> None:
    """Refuse sizes that disagree, tokens out of vocabulary and numbers that are none.

    Raises:
        ChunkRefused: as said.
    """
    # In this order: numbers are looked at only where the sizes agree.
    for fault in chain(_size_faults(request, tokenizer), _number_faults(request, tokenizer)):
        raise ChunkRefused(Verdict.MALFORMED, fault)


def _size_faults(request: Request, known: Tokenizer) -> Iterator[str]:
    joints = len(known.joint_names)
    if request.horizon != known.horizon:
        yield f"horizon {request.horizon} is not {known.horizon}"
    if request.tokens.size != known.token_count:
        yield f"{request.tokens.size} tokens, not {known.token_count}"
    if request.reference.shape != (joints,):
        yield f"{request.reference.size} reference positions, not {joints}"
    if request.mode not in tuple(JoinMode):
        yield f"mode is {request.mode}, known are 0 .. {max(JoinMode)}"
    for name in ("committed_steps", "execute_steps"):
        steps = getattr(request, name)
        if not 0 <= steps <= known.horizon:
            yield f"{name} is {steps}, allowed are 0 .. {known.horizon}, the horizon"


def _number_faults(request: Request, known: Tokenizer) -> Iterator[str]:
    if not (np.abs(request.reference) <= LARGEST).all():
        yield f"reference_positions are {request.reference}, not finite or beyond {LARGEST:g}"
    if not abs(request.control_period_s - known.control_period_s) < 1e-6:
        yield f"control_period is {request.control_period_s} s, not {known.control_period_s} s"
    tokens = request.tokens
    if not np.issubdtype(tokens.dtype, np.integer):
        yield f"tokens are {tokens.dtype}, not integers"
    elif not (tokens.min() >= 0 and tokens.max() < known.vocabulary_size):
        worst = tokens.min() if tokens.min() < 0 else tokens.max()
        yield f"token {worst} is out of vocabulary: allowed are 0 .. {known.vocabulary_size - 1}"
    if not np.isfinite(request.observation_s):
        yield f"the observation's time is {request.observation_s} s, not finite"
    if not 0 <= request.expected_interval_s <= LARGEST:
        yield f"expected_interval is {request.expected_interval_s} s, allowed are 0 .. {LARGEST:g}"
