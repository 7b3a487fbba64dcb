"""What stands out in a replay, as sentences: where to look first, not a verdict."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dfm_vla_ros.report.content import ReplayRun
from dfm_vla_ros.report.figures import Comparison, Figures, Following

CLEARLY = 0.7
"""One difference is clearly less than another if it is below this share of it."""
MUCH_LESS = 0.3
LARGE_OFFSET_RAD = 0.03
"""A joint that rests so far from its command is worth a look [rad]."""
LEAST_SHARE = 1.0
"""A camera moves with an arm if so much of its change goes with it [grey levels]."""
LEAST_RATIO = 0.75
"""Of the opening measured to the one commanded, or the other way round."""
LARGE_SHIFT = 0.03
"""A picture that lies so far from its reference, in parts of its size."""
LEAST_CONTRAST = 2.0
"""Standard deviation of a picture that shows something, 0..255."""
BEYOND = 0.05
"""A range that leaves the limits by this share of their span."""

SLOW = 3.0
"""A chunk that took so many times the median is mentioned."""


def remarks(
    run: ReplayRun, figures: Figures, comparison: Comparison, moving: Following
) -> tuple[str, ...]:
    """Return what stands out: cameras, joint order, offsets, ranges, latency, gaps."""
    found = [*run.problems, *_cameras(comparison), *_wrists(moving)]
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
    found = []
    for joint, name in enumerate(run.joint_names):
        median, low, high = figures.offset[joint]
        if run.units[joint] == "rad" and abs(median) > LARGE_OFFSET_RAD and low * high > 0:
            found.append(f"{name} {median:+.3f} rad")
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
    for at, kind in enumerate(("measured", "commanded", "predicted")):
        found = []
        for joint, name in enumerate(run.joint_names):
            lower, upper = run.lower[joint], run.upper[joint]
            least, most = figures.ranges[joint, at]
            slack = BEYOND * (upper - lower)
            if least < lower - slack or most > upper + slack:
                found.append(f"{name} {least:.3f} to {most:.3f} {run.units[joint]}")
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
