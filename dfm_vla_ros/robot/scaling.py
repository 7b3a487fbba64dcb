"""The smallest time scale at which a motion keeps every limit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.limits import JointLimits
from dfm_vla_ros.robot.settings import ROUNDING, PlanRefused, PlanSettings
from dfm_vla_ros.robot.spline import Spline, bounded

Array = NDArray[np.float64]


def slowed(
    wanted: Array,
    due_s: Array,
    position: Array,
    velocity: Array,
    limits: JointLimits,
    settings: PlanSettings,
    smallest_scale: float = 1.0,
) -> tuple[Spline, float]:
    """Return the spline at the smallest time scale found that keeps every limit, and the scale.

    All joints of both arms share the scale, so the shape of the motion stays.

    Args:
        wanted: (P, D) targets inside the limits [rad], grippers [m].
        due_s: (P,) seconds from the start at scale 1, positive and increasing.
        position: (D,) at the start.
        velocity: (D,) at the start [rad/s], grippers [m/s].
        limits: the D joints.
        settings: the margin and the largest scale (at least twice the smallest is tried).
        smallest_scale: where the search begins.

    Raises:
        PlanRefused: no scale up to the largest keeps the limits.
    """
    points = np.concatenate([position[None], wanted])
    lower, upper = reachable(position, limits, settings)
    scale, largest = smallest_scale, max(settings.largest_time_scale, 2 * smallest_scale)
    while True:
        times = np.concatenate([[0.0], due_s * scale])
        spline = bounded(times, points, velocity, lower - ROUNDING, upper + ROUNDING)
        fault, slower = _violation(spline, limits, lower, upper)
        if fault is None:
            return spline, scale
        scale *= max(slower, 1.01)
        if not scale <= largest:
            raise PlanRefused(f"{fault} even {largest:g} times slower")


def reachable(position: Array, limits: JointLimits, settings: PlanSettings) -> tuple[Array, Array]:
    """Return the bounds (D,), (D,) of a motion that begins at ``position``.

    A command that already lies outside may stay there and come back, never go further out.
    """
    inner = limits.shrunk(settings.margin_rad)
    return np.minimum(inner.lower, position), np.maximum(inner.upper, position)


def _violation(
    spline: Spline, limits: JointLimits, lower: Array, upper: Array
) -> tuple[str | None, float]:
    """Return what is violated most, as text, and how much slower it should run."""
    smallest, largest, speed, bend, jerk = spline.extremes()
    outside = np.maximum(lower - smallest, largest - upper)
    joint = int(np.argmax(outside))
    if not outside[joint] <= 2 * ROUNDING:
        extreme = smallest[joint] if smallest[joint] < lower[joint] else largest[joint]
        return (
            f"{limits.names[joint]} swings to {extreme:.4f} {limits.units(joint)}, allowed is "
            f"{lower[joint]:.4f} .. {upper[joint]:.4f},"
        ), 1.1
    for what, values, bounds, power in (
        ("velocity", speed, limits.velocity, 1.0),
        ("acceleration", bend, limits.acceleration, 1 / 2),
        ("jerk", jerk, limits.jerk, 1 / 3),
    ):
        excess = values / bounds
        joint = int(np.argmax(excess))
        if not excess[joint] <= 1 + ROUNDING:
            text = f"{what} of {limits.names[joint]} is {values[joint]:.3f}, allowed is"
            return f"{text} {bounds[joint]},", float(excess[joint] ** power)
    return None, 1.0
