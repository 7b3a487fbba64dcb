"""What action tokens mean in space: the paths of both grippers, and how sure each step is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.joints import ARM_JOINTS, ARMS
from dfm_vla_ros.robot.kinematics import Kinematics

Array = NDArray[np.float64]


class Tokenizer(Protocol):
    """What is needed of an action tokenizer."""

    joint_names: tuple[str, ...]
    horizon: int
    vocabulary_size: int
    per_step: bool

    def decode(self, tokens: NDArray[np.integer], reference: Array) -> Array:
        """Return targets (..., H, D)."""


def tip_paths(
    tokenizer: Tokenizer, kinematics: Kinematics, tokens: NDArray[np.integer], reference: Array
) -> Array:
    """Return (R, H + 1, A, 3) [m]: where each gripper is at the observation and at each step.

    A row with a token outside the vocabulary, a mask say, means no path yet: NaN.

    Args:
        tokenizer: decodes the tokens.
        kinematics: of joints in the tokenizer's order.
        tokens: (R, N), one row a chunk or an evaluation.
        reference: (D,) what the tokens are relative to [rad], grippers [m].

    Raises:
        TokenizerError: the tokens have another shape.
    """
    tokens = np.asarray(tokens, dtype=np.int64)
    known = ((tokens >= 0) & (tokens < tokenizer.vocabulary_size)).all(axis=-1)
    targets = tokenizer.decode(np.where(known[:, None], tokens, 0), np.asarray(reference))
    start = np.broadcast_to(reference, (len(tokens), 1, len(reference)))
    paths = kinematics.points(np.concatenate([start, targets], axis=1))
    paths[~known] = np.nan
    return paths


def arm_confidence(tokenizer: Tokenizer, confidence: NDArray[np.floating]) -> Array:
    """Return (R, H, A): the mean over an arm's tokens of each step.

    Where a token belongs to no step alone, all steps have the mean of all tokens.

    Args:
        tokenizer: of the tokens.
        confidence: (R, N) probability of each token.
    """
    rows, horizon = len(confidence), tokenizer.horizon
    given = np.asarray(confidence, dtype=np.float64)
    if not tokenizer.per_step:
        means = given.mean(axis=-1)
        return np.broadcast_to(means[:, None, None], (rows, horizon, len(ARMS)))
    by_step = given.reshape(rows, horizon, len(tokenizer.joint_names))
    columns = [[tokenizer.joint_names.index(name) for name in ARM_JOINTS[arm]] for arm in ARMS]
    return np.stack([by_step[..., arm].mean(axis=-1) for arm in columns], axis=-1)
