"""What an action tokenizer costs: error of the round trip, and of one wrong token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens.codec import ActionCodec, Array, Tokens
from dfm_vla_ros.tokens.fast import FastTokenizer

MOVED = 1e-3
"""[rad or m]: a target that is off by more than this counts as moved."""


@dataclass(frozen=True)
class Errors:
    """How large errors are [rad, m]."""

    median: float
    p99: float
    largest: float

    @classmethod
    def of(cls, errors: Array) -> Errors:
        """Return the figures of ``errors`` of any shape."""
        median, p99, largest = np.quantile(errors, (0.5, 0.99, 1.0))
        return cls(float(median), float(p99), float(largest))


@dataclass(frozen=True)
class Measurement:
    """One tokenizer on one set of chunks.

    Attributes:
        chunks: number of chunks.
        tokens: mean tokens a chunk, padding not counted.
        arms_rad: round-trip errors, one for each chunk, step and arm joint.
        grippers_m: the same of the grippers.
        replaced_arms_rad: after one token was replaced, the largest error of each chunk.
        replaced_grippers_m: the same of the grippers.
        moved: mean share of a chunk's targets that the replaced token moved by over ``MOVED``.
        malformed: share of the chunks with a replaced token that decoding found malformed.
    """

    chunks: int
    tokens: float
    arms_rad: Errors
    grippers_m: Errors
    replaced_arms_rad: Errors
    replaced_grippers_m: Errors
    moved: float
    malformed: float


def measure(
    codec: ActionCodec,
    targets: Array,
    reference: Array,
    grippers: NDArray[np.bool_],
    seed: int = 0,
) -> Measurement:
    """Return the errors of ``codec`` on ``targets`` (F, H, D) and ``reference`` (F, D).

    Args:
        codec: fitted on other data.
        targets: targets [rad, m].
        reference: commanded positions at the observations.
        grippers: (D,) which joints are grippers.
        seed: of the replaced tokens: a place among those before the padding, and another value,
            both uniform.
    """
    tokens = codec.encode(targets, reference).reshape(len(targets), -1)
    lengths = _lengths(codec, tokens)
    sound = codec.decode(tokens, reference)
    error = np.abs(sound - targets)
    report = codec.decode_report(replace_one(codec, tokens, lengths, seed), reference)
    worst = np.abs(report.targets - targets).max(axis=1)
    return Measurement(
        chunks=len(targets),
        tokens=float(lengths.mean()),
        arms_rad=Errors.of(error[..., ~grippers]),
        grippers_m=Errors.of(error[..., grippers]),
        replaced_arms_rad=Errors.of(worst[:, ~grippers].max(axis=1)),
        replaced_grippers_m=Errors.of(worst[:, grippers].max(axis=1)),
        moved=float((np.abs(report.targets - sound) > MOVED).mean()),
        malformed=float((report.malformed > 0).mean()),
    )


def replace_one(
    codec: ActionCodec, tokens: Tokens, lengths: NDArray[np.int64], seed: int
) -> Tokens:
    """Return (F, N) ``tokens`` with one of the first ``lengths`` (F,) of each row replaced."""
    rng = np.random.default_rng(seed)
    rows = np.arange(len(tokens))
    places = rng.integers(0, lengths)
    away = rng.integers(1, codec.vocabulary_size, len(tokens))
    damaged = tokens.copy()
    damaged[rows, places] = (tokens[rows, places] + away) % codec.vocabulary_size
    return damaged


def _lengths(codec: ActionCodec, tokens: Tokens) -> NDArray[np.int64]:
    if isinstance(codec, FastTokenizer):
        return codec.lengths(tokens)
    return np.full(len(tokens), tokens.shape[1])
