"""Figures of a replay that its plots show, and in sentences what stands out in them."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.report.content import Floats, Picture, PredictedChunk, Reference, ReplayRun, Rgb

SMALLEST_SPAN = 0.01
"""Joints that moved less count as if they had moved so much [rad, m], lest noise rank moments."""
WORST, APART_S = 6, 1.0
"""How many moments of large error are shown, and how far apart they are at least."""
COMPARED_PX, FARTHEST_PX = 48, 10
"""Side of the pictures that are compared, and how far a shift of one is looked for."""
MUST_HELP = 0.75
"""A shift must lower the difference to this share, or the picture did not move."""
CLEARLY, MUCH_LESS = 0.7, 0.3
"""One difference is clearly or much less than another if it is below this share of it."""
LARGE_OFFSET_RAD = 0.03
"""A joint that rests so far from its command is worth a look [rad]."""
LEAST_SHARE = 1.0
"""A camera moves with an arm if so much of its change goes with it [grey levels]."""
LEAST_RATIO = 0.75
"""Of the opening measured to the one commanded, or the other way round."""
LARGE_SHIFT = 0.03
"""A picture that lies so far from its reference, in parts of its size, has moved."""
LEAST_CONTRAST = 2.0
"""Standard deviation of a picture that shows something, 0..255."""
BEYOND = 0.05
"""A range that leaves the limits by this share of their span is mentioned."""
SLOW = 3.0
"""A chunk that took so many times the median is mentioned."""


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
        comparison, following: of the cameras.
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
    comparison: Comparison
    following: Following


def figures_of(run: ReplayRun) -> Figures:
    """Return the figures of a run; where there is nothing they are NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of NaN alone is NaN
        return _figures(run)


def _figures(run: ReplayRun) -> Figures:
    joints, grippers = len(run.joint_names), np.array(run.units) == "m"
    due_s, targets = _chunks(run)
    nothing = np.full((1, joints), np.nan)
    measured, commanded = (
        part if len(part) else nothing for part in (run.measured, run.commanded)
    )
    errors = np.abs(targets - recorded_at(run, due_s))
    spans = _ends(commanded) @ [-1.0, 1.0]
    score = np.nanmean(errors / np.fmax(spans, SMALLEST_SPAN), axis=(1, 2))
    apart = np.sqrt(np.nanmean((measured[:, :, None] - commanded[:, None, :]) ** 2, axis=0))
    apart[grippers[:, None] != grippers] = np.nan
    every = (measured, commanded, targets.reshape(-1, joints))
    return Figures(
        due_s=due_s,
        targets=targets,
        errors=errors,
        by_step=np.array([_spread(errors[..., part], (0, 2)) for part in (~grippers, grippers)]),
        by_joint=np.stack([*_spread(errors, (0, 1)).T[[0, 2]], spans], axis=-1),
        score=score,
        worst=_worst(run.chunks, score),
        offset=_percentiles(measured - commanded, (50, 5, 95), (0,)),
        distance=apart,
        ranges=np.stack([_ends(values) for values in every], axis=1),
        comparison=compare(run.samples, run.references),
        following=following(run),
    )


def _chunks(run: ReplayRun) -> tuple[Floats, Floats]:
    """Return when the steps of all chunks are due (C, H) and their targets (C, H, D)."""
    horizon = max((len(chunk.targets) for chunk in run.chunks), default=1)
    due_s = np.full((max(1, len(run.chunks)), max(1, horizon)), np.nan)
    targets = np.full((*due_s.shape, len(run.joint_names)), np.nan)
    for row, chunk in enumerate(run.chunks):
        due_s[row, : len(chunk.targets)] = due(chunk, run.period_s)
        targets[row, : len(chunk.targets)] = chunk.targets
    return due_s, targets


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
        if np.isfinite(score[row]) and all(
            abs(chunks[row].time_s - chunks[other].time_s) >= APART_S for other in chosen
        ):
            chosen.append(int(row))
    return np.array(chosen[:WORST], dtype=np.int64)


def _spread(errors: Floats, axes: tuple[int, ...]) -> Floats:
    """Return mean, 10th and 90th percentile over ``axes`` as the last axis of the result."""
    mean = np.nanmean(errors, axis=axes)[..., None]
    return np.concatenate([mean, _percentiles(errors, (10, 90), axes)], -1)


def _percentiles(values: Floats, shares: tuple[float, ...], axes: tuple[int, ...]) -> Floats:
    if not values.size:
        values = np.full([max(1, size) for size in values.shape], np.nan)
    return np.moveaxis(np.nanpercentile(values, shares, axis=axes), 0, -1)


def _ends(values: Floats) -> Floats:
    """Return smallest and largest of each column (D, 2)."""
    return np.stack([np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)], axis=-1)


def compare(samples: Mapping[str, Rgb], references: tuple[Reference, ...]) -> Comparison:
    """Return how far each sample is from each reference (RGB images of any size)."""
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
        for right, down in itertools.product(reach, reach)
    }
    right, down = min(found, key=lambda shift: found[shift])
    if found[right, down] > MUST_HELP * found[0, 0]:
        return np.nan, np.nan
    return right / COMPARED_PX, down / COMPARED_PX


def _overlap_difference(expected: Floats, image: Floats, right: int, down: int) -> float:
    def cut(picture: Floats, right: int, down: int) -> Floats:
        return picture[max(0, down) : COMPARED_PX + down, max(0, right) : COMPARED_PX + right]

    return float(np.abs(cut(expected, -right, -down) - cut(image, right, down)).mean())


def _small(image: Rgb) -> Floats:
    size = (COMPARED_PX, COMPARED_PX)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float64)


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
    joints = recorded_at(run, np.array([chunk.time_s for chunk in chunks]))
    change = np.full((len(cameras), len(arms)), np.nan)
    for row, camera in enumerate(cameras):
        seen = _changes([chunk.pictures[camera] for chunk in chunks])
        for column, arm in enumerate(arms):
            own = [j for j, name in enumerate(names) if name == arm and run.units[j] == "rad"]
            motion = np.linalg.norm(np.diff(joints[:, own], axis=0), axis=-1)
            change[row, column] = _shared(seen, motion)
    return Following(tuple(cameras), tuple(arms), change)


def _changes(pictures: list[Picture]) -> Floats:
    """Return the mean difference of each picture to the next, 0..255."""
    grey = [
        cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_GRAYSCALE).astype(float)
        for picture in pictures
    ]
    return np.array([np.abs(after - before).mean() for before, after in itertools.pairwise(grey)])


def _shared(seen: Floats, motion: Floats) -> float:
    known = np.isfinite(motion)
    seen, motion = seen[known], motion[known]
    spread = motion.std() if len(motion) else 0.0
    if spread < 1e-4:
        return np.nan
    return float(np.mean((seen - seen.mean()) * (motion - motion.mean())) / spread)


def remarks(run: ReplayRun, figures: Figures) -> tuple[str, ...]:
    """Return what stands out: cameras, joint order, offsets, ranges, latency, gaps."""
    found = [*run.problems, *_cameras(figures.comparison), *_wrists(figures.following)]
    # Where the order is wrong, offsets say nothing.
    found += [*_order(run, figures)] or [*_offsets(run, figures)]
    return (*found, *_ranges(run, figures), *_openings(run), *_latency(run), *_gaps(run))


def _cameras(comparison: Comparison) -> Iterator[str]:
    for row, camera in enumerate(comparison.cameras):
        if comparison.contrast[row] < LEAST_CONTRAST:
            yield f"{camera} shows one colour only: covered, dark or not connected?"
            continue
        if camera not in comparison.references:
            continue
        own = comparison.references.index(camera)
        table = comparison.difference[row]
        own_best = table[own].min()
        best = int(np.nanargmin(table.min(axis=-1)))
        other = comparison.references[best]
        least = table[best].min()
        if best != own and least < CLEARLY * own_best:
            yield (
                f"{camera} resembles the reference of {other} (difference {least:.0f}) "
                f"more than its own ({own_best:.0f}): cameras exchanged?"
            )
        elif table[own, 1] < CLEARLY * table[own, 0]:
            yield (
                f"{camera} resembles its reference more with red and blue exchanged (difference "
                f"{table[own, 1]:.0f} against {table[own, 0]:.0f}): BGR for RGB?"
            )
        elif np.abs(comparison.shift[row]).max() > LARGE_SHIFT:  # NaN is not
            right, down = comparison.shift[row]
            yield (
                f"{camera} lies {right:+.0%} of its width and {down:+.0%} of its height (right, "
                "down) from its reference: moved, or calibration out of date?"
            )


def _wrists(moving: Following) -> Iterator[str]:
    for column, arm in enumerate(moving.arms):
        shares = moving.change[:, column]
        own = [row for row, name in enumerate(moving.cameras) if name.startswith(f"{arm}_")]
        if not np.isfinite(shares).all() or not own:
            continue
        most = int(np.argmax(shares))
        if most not in own and shares[most] > max(LEAST_SHARE, shares[own].max() / CLEARLY):
            yield (
                f"{moving.cameras[most]} moves with the {arm} arm ({shares[most]:.1f} grey levels "
                f"against {shares[own].max():.1f} of {moving.cameras[own[0]]}): cameras exchanged?"
            )


def _order(run: ReplayRun, figures: Figures) -> Iterator[str]:
    """Yield one sentence; grippers are left out, since what they hold keeps them off."""
    found = []
    for joint, name in enumerate(run.joint_names):
        row = figures.distance[joint]
        if run.units[joint] != "rad" or not np.isfinite(row[joint]):
            continue
        nearest = int(np.nanargmin(row))
        if row[joint] > LARGE_OFFSET_RAD and row[nearest] < MUCH_LESS * row[joint]:
            found.append(f"{name} that of {run.joint_names[nearest]}")
    if found:
        yield f"measured joints follow commands of others ({_some(found)}): wrong order?"


def _offsets(run: ReplayRun, figures: Figures) -> Iterator[str]:
    found = [
        f"{name} {median:+.3f} rad"
        for name, unit, (median, low, high) in zip(
            run.joint_names, run.units, figures.offset, strict=True
        )
        if unit == "rad" and abs(median) > LARGE_OFFSET_RAD and low * high > 0
    ]
    if found:
        yield (
            f"measured off their command nearly all the time: {_some(found)}: zero position or "
            "calibration out of date?"
        )


def _openings(run: ReplayRun) -> Iterator[str]:
    for joint, name in enumerate(run.joint_names):
        pairs = np.stack([run.measured[:, joint], run.commanded[:, joint]])
        pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
        if run.units[joint] != "m" or not pairs.size or pairs[1].max() <= 0:
            continue
        measured, commanded = pairs.max(axis=1)
        if not LEAST_RATIO < measured / commanded < 1 / LEAST_RATIO:
            yield (
                f"{name} is measured open to {measured:.3f} m, commanded to {commanded:.3f} m: "
                "another scale?"
            )


def _ranges(run: ReplayRun, figures: Figures) -> Iterator[str]:
    if run.lower is None or run.upper is None:
        return
    slack = BEYOND * (run.upper - run.lower)
    for at, kind in enumerate(("measured", "commanded", "predicted")):
        least, most = figures.ranges[:, at].T
        beyond = (least < run.lower - slack) | (most > run.upper + slack)
        found = [
            f"{run.joint_names[j]} {least[j]:.3f} to {most[j]:.3f} {run.units[j]}"
            for j in np.flatnonzero(beyond)
        ]
        if found:
            yield f"{kind} beyond the limits: {_some(found)}: another unit or scale?"


def _some(found: list[str]) -> str:
    """Return the first three, and how many more there are."""
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more


def _latency(run: ReplayRun) -> Iterator[str]:
    times_ms = 1e3 * np.array([chunk.inference_s for chunk in run.chunks] or [0.0])
    slowest, usual_ms = int(np.argmax(times_ms)), np.median(times_ms)
    if times_ms[slowest] > SLOW * usual_ms > 0:
        yield (
            f"the chunk at {run.chunks[slowest].time_s:.1f} s took {times_ms[slowest]:.0f} ms, "
            f"the median is {usual_ms:.0f} ms"
        )
    refused = [chunk for chunk in run.chunks if chunk.refused]
    if refused:
        reasons = sorted({chunk.refused for chunk in refused})
        yield f"{len(refused)} of {len(run.chunks)} chunks were refused: {', '.join(reasons)}"


def _gaps(run: ReplayRun) -> Iterator[str]:
    if run.gaps:
        longest = max(run.gaps, key=lambda gap: gap.end_s - gap.start_s)
        yield (
            f"{len(run.gaps)} gaps in the recording; the longest: {longest.source} silent for "
            f"{longest.end_s - longest.start_s:.2f} s from {longest.start_s:.2f} s on"
        )
    yield from (f"{source.name}: {source.remark}" for source in run.sources if source.remark)
