"""Figures of a replay that its plots show: errors, tracking, ranges, the moments to look at."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.report.content import Floats, PredictedChunk, Reference, ReplayRun
from dfm_vla_ros.report.pictures import Picture

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


COMPARED_PX = 48
"""Side of the pictures that are compared: coarse, so that small motions count little."""
FARTHEST_PX = 10
"""How far a shift is looked for, of ``COMPARED_PX``."""
MUST_HELP = 0.75
"""A shift must lower the difference to this share, or the picture did not move."""


@dataclass(frozen=True)
class Comparison:
    """C cameras against R references.

    Attributes:
        cameras, references: names of the cameras.
        difference: (C, R, 2) mean absolute difference of the pictures, 0..255; last axis: channels
            as they are, and with red and blue exchanged.
        shift: (C, 2) how far a picture lies right and down of its own reference, in parts of the
            width and height; NaN without one or where the two have too little in common.
        contrast: (C,) standard deviation of a picture, 0..255.
    """

    cameras: tuple[str, ...]
    references: tuple[str, ...]
    difference: Floats
    shift: Floats
    contrast: Floats


def compare(
    samples: Mapping[str, NDArray[np.uint8]], references: tuple[Reference, ...]
) -> Comparison:
    """Return how far each sample is from each reference.

    Args:
        samples: camera -> (H, W, 3) uint8 RGB.
        references: what the cameras should see, any size.
    """
    seen = {camera: _small(image) for camera, image in samples.items()}
    known = [(reference.camera, _small(reference.image)) for reference in references]
    difference = np.full((len(seen), len(known), 2), np.nan)
    shift = np.full((len(seen), 2), np.nan)
    for row, (camera, image) in enumerate(seen.items()):
        for column, (other, expected) in enumerate(known):
            for order, picture in enumerate((image, image[..., ::-1])):
                difference[row, column, order] = np.abs(picture - expected).mean()
            if other == camera:
                shift[row] = displacement(expected, image)
    contrast = np.array([image.std() for image in seen.values()])
    names = tuple(name for name, _ in known)
    return Comparison(tuple(seen), names, difference, shift, contrast)


def displacement(expected: Floats, image: Floats) -> tuple[float, float]:
    """Return how far ``image`` lies right and down of ``expected``, in parts of its size.

    The shift by whole pixels at which the parts that overlap differ least (block matching); NaN
    unless they differ clearly less than without a shift.
    """
    reach = range(-FARTHEST_PX, FARTHEST_PX + 1)
    found = {
        (right, down): _overlap_difference(expected, image, right, down)
        for right in reach
        for down in reach
    }
    right, down = min(found, key=lambda shift: found[shift])
    if found[right, down] > MUST_HELP * found[0, 0]:
        return np.nan, np.nan
    height, width = expected.shape[:2]
    return right / width, down / height


def _overlap_difference(expected: Floats, image: Floats, right: int, down: int) -> float:
    height, width = expected.shape[:2]
    rows = slice(max(0, down), height + min(0, down))
    columns = slice(max(0, right), width + min(0, right))
    back = (slice(rows.start - down, rows.stop - down), slice(columns.start - right, None))
    moved = image[rows, columns]
    return float(np.abs(expected[back][:, : moved.shape[1]] - moved).mean())


def _small(image: NDArray[np.uint8]) -> Floats:
    size = (COMPARED_PX, COMPARED_PX)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float64)


@dataclass(frozen=True)
class Following:
    """C wrist cameras against A arms; a camera is an arm's if its name begins with the arm's.

    Attributes:
        cameras, arms: names.
        change: (C, A) how much of a picture's change from chunk to chunk goes with the arm's
            motion: their covariance over the motion's standard deviation, in grey levels
            (0..255); NaN for an arm that does not move.
    """

    cameras: tuple[str, ...]
    arms: tuple[str, ...]
    change: Floats


def following(run: ReplayRun) -> Following:
    """Return it; without cameras or arms of such names, or with few chunks, it is empty."""
    names = [name.split("_")[0] for name in run.joint_names]
    chunks = [chunk for chunk in run.chunks if chunk.pictures]
    cameras = [
        camera
        for camera in (chunks[0].pictures if len(chunks) > 2 else ())
        if camera.split("_")[0] in names and all(camera in chunk.pictures for chunk in chunks)
    ]
    arms = [arm for arm in dict.fromkeys(names) if any(c.startswith(f"{arm}_") for c in cameras)]
    times_s = np.array([chunk.time_s for chunk in chunks])
    moved = [_motion(run, names, arm, times_s) for arm in arms]
    changed = [_changes([chunk.pictures[camera] for chunk in chunks]) for camera in cameras]
    change = np.array([[_shared(seen, motion) for motion in moved] for seen in changed])
    return Following(tuple(cameras), tuple(arms), change.reshape(len(cameras), len(arms)))


def _motion(run: ReplayRun, names: list[str], arm: str, times_s: Floats) -> Floats:
    """Return how far the commanded arm moved from each time to the next [rad]."""
    columns = [j for j, name in enumerate(names) if name == arm and run.units[j] == "rad"]
    joints = recorded_at(run, times_s)[:, columns]
    return np.linalg.norm(np.diff(joints, axis=0), axis=-1)


def _changes(pictures: list[Picture]) -> Floats:
    """Return the mean difference of each picture to the next, 0..255."""
    grey = [
        cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_GRAYSCALE)
        for picture in pictures
    ]
    pairs = itertools.pairwise(grey)
    return np.array([np.abs(after.astype(float) - before).mean() for before, after in pairs])


def _shared(seen: Floats, motion: Floats) -> float:
    known = np.isfinite(motion)
    seen, motion = seen[known], motion[known]
    spread = motion.std() if len(motion) else 0.0
    if spread < 1e-4:
        return np.nan
    return float(np.mean((seen - seen.mean()) * (motion - motion.mean())) / spread)
