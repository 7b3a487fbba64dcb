"""Action tokenizers fitted and measured on demonstrations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.data.dataset import Dataset, open_datasets
from dfm_vla_ros.data.episodes import Episode
from dfm_vla_ros.data.format import DatasetError
from dfm_vla_ros.robot.joints import ARM_JOINTS, JOINT_NAMES
from dfm_vla_ros.tokens import ActionCodec
from dfm_vla_ros.tokens.chunks import next_targets
from dfm_vla_ros.tokens.loading import ACTION_KINDS
from dfm_vla_ros.tokens.measure import Measurement, measure
from dfm_vla_ros.tokens.specification import TokenizerError

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
    columns: list[list[Any]] = [[], [], [], []]
    datasets = open_datasets([data])
    for number, episode in _numbered(datasets, episodes):
        row = (next_targets(episode.targets, horizon), episode.commanded)
        names = (np.full(len(episode), episode.task), np.full(len(episode), number))
        for column, part in zip(columns, (*row, *names), strict=True):
            column.append(part)
    periods = sorted({dataset.period_s for dataset in datasets})
    if len(periods) != 1:
        raise DatasetError(f"{data} has control periods {periods} s: use one at a time")
    if not columns[0]:
        raise DatasetError(f"no episode in {data}; make some with dfm-vla collect")
    return Chunks(*(np.concatenate(column) for column in columns), periods[0])


def _numbered(datasets: Sequence[Dataset], limit: int) -> Iterator[tuple[int, Episode]]:
    for dataset in datasets:
        for task in dataset.tasks:
            yield from enumerate(dataset.episodes(task, limit, images=False))


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
class Row:
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


def table(chunks: Chunks, seed: int = 0) -> Iterator[Row]:
    """Yield every variant, fitted on four fifths of the episodes, measured on the others."""
    held = chunks.episode % HELD_OUT == HELD_OUT - 1
    if not held.any():
        raise TokenizerError(f"too few episodes: give at least {HELD_OUT} of each task")
    seen, unseen = chunks.where(~held), chunks.where(held)
    for label, (kind, options) in variants(chunks.targets.shape[1]).items():
        try:
            codec = fit(kind, seen, **options)
        except TokenizerError as error:
            yield Row(label, "all", problem=str(error))
            continue
        for task in ("all", *np.unique(unseen.task)):
            yield _row(label, str(task), codec, unseen, seed)


def _row(label: str, task: str, codec: ActionCodec, chunks: Chunks, seed: int) -> Row:
    part = chunks if task == "all" else chunks.where(chunks.task == task)
    grippers = np.array([name in GRIPPERS for name in JOINT_NAMES])
    measured = measure(codec, part.targets, part.reference, grippers, seed)
    return Row(label, task, codec.vocabulary_size, codec.token_count, measured)
