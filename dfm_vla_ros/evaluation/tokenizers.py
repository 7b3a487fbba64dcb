"""Action tokenizers fitted and measured on demonstrations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.data.dataset import open_datasets
from dfm_vla_ros.data.format import DatasetError
from dfm_vla_ros.robot.joints import ARM_JOINTS, JOINT_NAMES
from dfm_vla_ros.tokens.codec import ActionCodec, Array, Tokens
from dfm_vla_ros.tokens.fast import FastTokenizer
from dfm_vla_ros.tokens.loading import ACTION_KINDS
from dfm_vla_ros.tokens.specification import TokenizerError, next_targets

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


GRIPPERS = tuple(joints[-1] for joints in ARM_JOINTS.values())
HELD_OUT = 5
"""Every so many-th episode is measured, the others are fitted on."""


@dataclass(frozen=True)
class Chunks:
    """F chunks of demonstrations.

    Attributes:
        targets: (F, H, 14) clean targets of the next H steps [rad], grippers [m].
        reference: (F, 14) commanded positions at the frames.
        task: (F,) name of the task.
        episode: (F,) number of the episode among those of its task and data set.
        period_s: control period [s].
    """

    targets: NDArray[np.float64]
    reference: NDArray[np.float64]
    task: NDArray[np.str_]
    episode: NDArray[np.int64]
    period_s: float

    def where(self, mask: NDArray[np.bool_]) -> Chunks:
        """Return the chunks of ``mask`` (F,)."""
        parts = (self.targets, self.reference, self.task, self.episode)
        return Chunks(*(part[mask] for part in parts), self.period_s)


def load_chunks(data: Path, horizon: int, episodes: int) -> Chunks:
    """Return the chunks of all frames of the demonstrations in a folder.

    Args:
        data: a data set, or a folder that holds data sets.
        horizon: steps of a chunk H.
        episodes: of each task and data set; 0: all.

    Raises:
        DatasetError: there is no episode, or their control periods differ.
    """
    datasets = open_datasets([data])
    rows = [
        (
            next_targets(episode.targets, horizon),
            episode.commanded,
            np.full(len(episode), episode.task),
            np.full(len(episode), number),
        )
        for dataset in datasets
        for task in dataset.tasks
        for number, episode in enumerate(dataset.episodes(task, episodes, images=False))
    ]
    periods = sorted({dataset.period_s for dataset in datasets})
    if len(periods) != 1:
        raise DatasetError(f"{data} has control periods {periods} s: use one at a time")
    if not rows:
        raise DatasetError(f"no episode in {data}; make some with dfm-vla collect")
    return Chunks(*(np.concatenate(column) for column in zip(*rows, strict=True)), periods[0])


def fit(kind: str, chunks: Chunks, **options: Any) -> ActionCodec:
    """Return a tokenizer of ``kind`` fitted on ``chunks``; see the ``fit`` of its class."""
    make = ACTION_KINDS[kind].fit
    return make(
        chunks.targets, chunks.reference, JOINT_NAMES, GRIPPERS, chunks.period_s, **options
    )


def variants(horizon: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the rows of the table: label -> kind and options."""
    rows: dict[str, tuple[str, dict[str, Any]]] = {
        "uniform, 256": ("uniform", {}),
        "uniform, 2001": ("uniform", {"vocabulary_size": 2001}),
        "maat, q01..q99": ("maat", {}),
        "maat, whole range": ("maat", {"quantile": 0.0}),
        "dct": ("dct", {}),
    }
    for share in (2, 4):
        if horizon >= 4 * share:
            kept = horizon // share
            rows[f"dct, {kept} of {horizon}"] = ("dct", {"coefficients": kept})
    for scale in (10, 50):
        rows[f"fast, scale {scale}"] = ("fast", {"scale": float(scale)})
    return rows


@dataclass(frozen=True)
class TokenizerRow:
    """One tokenizer on one task ("all": on all three).

    Attributes:
        label: name of the variant.
        task: name of the task, or "all".
        vocabulary_size: K.
        token_count: N.
        measurement: on episodes that were not fitted on; None if it cannot be fitted.
        problem: why it cannot.
    """

    label: str
    task: str
    vocabulary_size: int = 0
    token_count: int = 0
    measurement: Measurement | None = None
    problem: str = ""


def table(chunks: Chunks, seed: int = 0) -> Iterator[TokenizerRow]:
    """Yield every variant, fitted on four fifths of the episodes, measured on the others."""
    held = chunks.episode % HELD_OUT == HELD_OUT - 1
    if not held.any():
        raise TokenizerError(f"too few episodes: give at least {HELD_OUT} of each task")
    seen, unseen = chunks.where(~held), chunks.where(held)
    for label, (kind, options) in variants(chunks.targets.shape[1]).items():
        try:
            codec = fit(kind, seen, **options)
        except TokenizerError as error:
            yield TokenizerRow(label, "all", problem=str(error))
            continue
        for task in ("all", *np.unique(unseen.task)):
            yield _row(label, str(task), codec, unseen, seed)


def _row(label: str, task: str, codec: ActionCodec, chunks: Chunks, seed: int) -> TokenizerRow:
    part = chunks if task == "all" else chunks.where(chunks.task == task)
    grippers = np.array([name in GRIPPERS for name in JOINT_NAMES])
    measured = measure(codec, part.targets, part.reference, grippers, seed)
    return TokenizerRow(label, task, codec.vocabulary_size, codec.token_count, measured)
