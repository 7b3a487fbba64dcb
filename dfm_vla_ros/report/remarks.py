"""What stands out in a replay, as sentences: where to look first, not a verdict."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dfm_vla_ros.report.cameras import Comparison
from dfm_vla_ros.report.content import ReplayRun
from dfm_vla_ros.report.figures import Figures

CLEARLY = 0.7
"""One difference is clearly less than another if it is below this share of it."""
LARGE_OFFSET = {"rad": 0.03, "m": 0.003}
"""A joint that rests so far from its command is worth a look [rad, m]."""
LARGE_SHIFT = 0.03
"""A picture that lies so far from its reference, in parts of its size."""
LEAST_CONTRAST = 2.0
"""Standard deviation of a picture that shows something, 0..255."""
BEYOND = 0.05
"""A range that leaves the limits by this share of their span."""

SLOW = 3.0
"""A chunk that took so many times the median is mentioned."""


def remarks(run: ReplayRun, figures: Figures, comparison: Comparison) -> tuple[str, ...]:
    """Return what stands out: cameras, joint order, offsets, ranges, latency, gaps."""
    found = [*run.problems, *_cameras(comparison)]
    found += [*_order(run, figures), *_offsets(run, figures), *_ranges(run, figures)]
    return (*found, *_latency(run), *_gaps(run))


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


def _order(run: ReplayRun, figures: Figures) -> Iterator[str]:
    for joint, name in enumerate(run.joint_names):
        row = figures.distance[joint]
        if not np.isfinite(row[joint]):
            continue
        nearest = int(np.nanargmin(row))
        far = row[joint] > LARGE_OFFSET[run.units[joint]]
        if nearest != joint and far and row[nearest] < CLEARLY * row[joint]:
            yield (
                f"measured {name} follows the command of {run.joint_names[nearest]} "
                f"({row[nearest]:.3f} {run.units[joint]} apart) rather than its own "
                f"({row[joint]:.3f}): joints in the wrong order?"
            )


def _offsets(run: ReplayRun, figures: Figures) -> Iterator[str]:
    for joint, name in enumerate(run.joint_names):
        median, low, high = figures.offset[joint]
        bound = LARGE_OFFSET[run.units[joint]]
        if abs(median) > bound and low * high > 0:
            yield (
                f"{name} is measured {median:+.3f} {run.units[joint]} from its command nearly "
                "all the time: zero position or calibration out of date?"
            )


def _ranges(run: ReplayRun, figures: Figures) -> Iterator[str]:
    if run.lower is None or run.upper is None:
        return
    kinds = ("measured", "commanded", "predicted")
    for joint, name in enumerate(run.joint_names):
        lower, upper = run.lower[joint], run.upper[joint]
        slack = BEYOND * (upper - lower)
        for kind, (least, most) in zip(kinds, figures.ranges[joint], strict=True):
            if least < lower - slack or most > upper + slack:
                yield (
                    f"{name} {kind} from {least:.3f} to {most:.3f} {run.units[joint]}, beyond its "
                    f"limits {lower:.3f} to {upper:.3f}: another unit or scale?"
                )


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
