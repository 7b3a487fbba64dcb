"""Figures of a replay that its plots show: errors, tracking, ranges, the moments to look at."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.report.content import Floats, PredictedChunk, ReplayRun

SMALLEST_SPAN = 0.01
"""Joints that moved less count as if they had moved so much [rad, m], lest noise rank moments."""
WORST, APART_S = 6, 1.0
"""How many moments of large error are shown, and how far apart they are at least."""


@dataclass(frozen=True)
class Figures:
    """C chunks of at most H steps, D joints; NaN beyond the recording.

    Attributes:
        due_s: (C, H) when each step is due [s].
        targets: (C, H, D) what the chunks asked for [rad, m].
        errors: (C, H, D) |predicted - recorded| at that time [rad, m].
        by_step: (2, H, 3) of arm joints [rad] and of grippers [m]: mean, 10th and 90th percentile.
        by_joint: (D, 3) mean and 90th percentile of the errors, span of the recorded joint.
        score: (C,) mean over steps and joints of error / span.
        worst: chunks with the largest scores, at least a second apart, largest first.
        offset: (D, 3) measured - commanded: median, 5th and 95th percentile.
        distance: (D, D) root mean square of measured i - commanded j, NaN between units.
        ranges: (D, 3, 2) smallest and largest value measured, commanded, predicted.
    """

    due_s: Floats
    targets: Floats
    errors: Floats
    by_step: Floats
    by_joint: Floats
    score: Floats
    worst: NDArray[np.int64]
    offset: Floats
    distance: Floats
    ranges: Floats


def figures_of(run: ReplayRun) -> Figures:
    """Return the figures of a run; without chunks or moments their arrays are empty or NaN."""
    horizon = max((len(chunk.targets) for chunk in run.chunks), default=0)
    joints = len(run.joint_names)
    due_s = np.full((len(run.chunks), horizon), np.nan)
    targets = np.full((len(run.chunks), horizon, joints), np.nan)
    for row, chunk in enumerate(run.chunks):
        due_s[row, : len(chunk.targets)] = due(chunk, run.period_s)
        targets[row, : len(chunk.targets)] = chunk.targets
    errors = np.abs(targets - recorded_at(run, due_s))
    spans = _ends(run.commanded) @ [-1.0, 1.0]
    score = _mean(errors / np.fmax(spans, SMALLEST_SPAN), (1, 2))[: len(run.chunks)]
    grippers = np.array(run.units) == "m"
    by_step = [_summary(errors[..., part], (0, 2)) for part in (~grippers, grippers)]
    by_joint = np.stack([*_summary(errors, (0, 1)).T[[0, 2]], spans], axis=-1)
    return Figures(
        due_s=due_s,
        targets=targets,
        errors=errors,
        by_step=np.array(by_step),
        by_joint=by_joint,
        score=score,
        worst=_worst(run.chunks, score),
        offset=_percentiles(run.measured - run.commanded, (50, 5, 95)),
        distance=_distance(run, grippers),
        ranges=np.stack(
            [_ends(run.measured), _ends(run.commanded), _ends(targets.reshape(-1, joints))], axis=1
        ),
    )


def due(chunk: PredictedChunk, period_s: float) -> Floats:
    """Return the times (H,) at which a chunk's steps are due [s]."""
    if chunk.due_s is not None:
        return chunk.due_s
    return chunk.time_s + period_s * np.arange(1, len(chunk.targets) + 1)


def recorded_at(run: ReplayRun, times_s: Floats) -> Floats:
    """Return the recorded commands (*times_s.shape, D), NaN outside the recording."""
    columns = np.full((*times_s.shape, len(run.joint_names)), np.nan)
    for joint, column in enumerate(run.commanded.T):
        known = np.isfinite(column)
        if known.any():
            columns[..., joint] = np.interp(
                times_s, run.times_s[known], column[known], left=np.nan, right=np.nan
            )
    return columns


def _worst(chunks: tuple[PredictedChunk, ...], score: Floats) -> NDArray[np.int64]:
    chosen: list[int] = []
    for row in np.argsort(-np.nan_to_num(score, nan=-1.0), kind="stable"):
        times = [chunks[other].time_s for other in chosen]
        if np.isfinite(score[row]) and all(
            abs(chunks[row].time_s - time) >= APART_S for time in times
        ):
            chosen.append(int(row))
    return np.array(chosen[:WORST], dtype=np.int64)


def _distance(run: ReplayRun, grippers: NDArray[np.bool_]) -> Floats:
    apart = run.measured[:, :, None] - run.commanded[:, None, :]
    distance = np.sqrt(_mean(apart**2, 0))
    distance[grippers[:, None] != grippers] = np.nan
    return distance


def _summary(errors: Floats, axes: tuple[int, ...]) -> Floats:
    """Return mean, 10th and 90th percentile over ``axes`` as the last axis of the result."""
    return np.concatenate(
        [_mean(errors, axes)[..., None], _percentiles(errors, (10, 90), axes)], -1
    )


def _ends(values: Floats) -> Floats:
    """Return smallest and largest of each column (D, 2)."""
    values = _padded(values)
    return np.stack([np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)], axis=-1)


def _mean(values: Floats, axes: int | tuple[int, ...]) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a row of NaN has the mean NaN
        return np.nanmean(_padded(values), axis=axes)


def _percentiles(
    values: Floats, shares: tuple[float, ...], axes: int | tuple[int, ...] = 0
) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.moveaxis(np.nanpercentile(_padded(values), shares, axis=axes), 0, -1)


def _padded(values: Floats) -> Floats:
    """Return NaN where there is nothing at all."""
    return values if values.size else np.full([max(1, size) for size in values.shape], np.nan)
