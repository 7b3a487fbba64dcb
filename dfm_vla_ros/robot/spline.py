"""Cubic splines over joint waypoints: C2 where limits allow, and their exact extremes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator

Array = NDArray[np.float64]

SHORTEST_STOP_S = 1e-4


@dataclass(frozen=True)
class Spline:
    """Waypoints joined by cubics, as a joint_trajectory_controller joins them.

    Attributes:
        times_s: (P,) strictly increasing.
        positions: (P, D).
        velocities: (P, D).
    """

    times_s: Array
    positions: Array
    velocities: Array

    def extremes(self) -> tuple[Array, Array, Array, Array, Array]:
        """Return smallest and largest position, largest speed, acceleration and jerk, each (D,).

        Exact, not sampled: with u in [0, 1] over a segment of length h the cubic is
        ``x0 + h v0 u + b u^2 + a u^3``; its extremes lie at the ends and at the roots of the
        derivative, those of the velocity at ``u = -b / 3a``, those of the acceleration at the
        ends; its third derivative is ``6 a / h^3`` throughout.
        """
        h, v0, b, a = self._coefficients()
        start = self.positions[:-1]
        inner = [start + u * (h * v0 + u * (b + u * a)) for u in _turning_points(h * v0, b, a)]
        positions = np.concatenate([self.positions, *inner])
        u = _inside(_divide(-b, 3 * a))
        speeds = np.concatenate([self.velocities, v0 + u * (2 * b + 3 * a * u) / h])
        bends = np.concatenate([2 * b, 2 * b + 6 * a]) / np.concatenate([h, h]) ** 2
        return (
            positions.min(axis=0),
            positions.max(axis=0),
            np.abs(speeds).max(axis=0),
            np.abs(bends).max(axis=0),
            np.abs(6 * a / h**3).max(axis=0),
        )

    def sampled(self, parts: int) -> tuple[Array, Array]:
        """Return times (M,) and positions (M, D) of every waypoint and ``parts - 1`` between."""
        h, v0, b, a = (values[:, None] for values in self._coefficients())
        u = np.arange(parts)[None, :, None] / parts
        inner = self.positions[:-1, None] + u * (h * v0 + u * (b + u * a))
        times = (self.times_s[:-1, None] + h[:, :, 0] * u[:, :, 0]).ravel()
        positions = inner.reshape(times.size, -1)
        return np.append(times, self.times_s[-1]), np.append(
            positions, self.positions[-1:], axis=0
        )

    def with_knot(self, time_s: float) -> Spline:
        """Return the same curve with one more waypoint inside the first segment."""
        h, v0, b, a = (values[0] for values in self._coefficients())
        u = (time_s - self.times_s[0]) / h
        position = self.positions[0] + u * (h * v0 + u * (b + u * a))
        velocity = v0 + u * (2 * b + 3 * a * u) / h
        return Spline(
            np.insert(self.times_s, 1, time_s),
            np.insert(self.positions, 1, position, axis=0),
            np.insert(self.velocities, 1, velocity, axis=0),
        )

    def _coefficients(self) -> tuple[Array, Array, Array, Array]:
        """Return h (P-1, 1) and v0, b, a (P-1, D) of every segment."""
        h = np.diff(self.times_s)[:, None]
        step = np.diff(self.positions, axis=0)
        v0, v1 = self.velocities[:-1], self.velocities[1:]
        return h, v0, 3 * step - h * (2 * v0 + v1), h * (v0 + v1) - 2 * step


def clamped(times_s: Array, positions: Array, start_velocity: Array) -> Spline:
    """Return the C2 spline through ``positions`` (P, D) from ``start_velocity`` (D,) to rest."""
    rest = np.zeros_like(start_velocity)
    curve = CubicSpline(times_s, positions, bc_type=((1, start_velocity), (1, rest)))
    velocities = curve(times_s, 1)
    velocities[0], velocities[-1] = start_velocity, rest
    return Spline(times_s, positions, velocities)


def bounded(times_s: Array, positions: Array, start: Array, lower: Array, upper: Array) -> Spline:
    """Return a spline that stays within ``lower`` .. ``upper`` (D,) if its waypoints do.

    A joint whose C2 spline would swing past a bound (a gripper that closes and stays closed) gets
    the slopes of a monotone C1 cubic instead; if the start velocity (``start``, (D,)) alone
    carries it over, it first stops before the bound. All other joints keep their C2 spline.
    """
    spline = clamped(times_s, positions, start)
    for joint in _outside(spline, lower, upper):
        spline.velocities[:, joint] = _monotone(times_s, positions[:, joint], start[joint])
    outside = _outside(spline, lower, upper)
    return _stopped(spline, outside, lower, upper) if outside.size else spline


def _outside(spline: Spline, lower: Array, upper: Array) -> Array:
    """Return the joints that pass a bound."""
    smallest, largest, *_ = spline.extremes()
    return np.flatnonzero((smallest < lower) | (largest > upper))


def _monotone(times_s: Array, positions: Array, start_velocity: float) -> Array:
    """Return slopes (P,) without overshoot after the first segment (Fritsch and Carlson)."""
    slopes = PchipInterpolator(times_s, positions)(times_s, 1)
    slopes[0], slopes[-1] = start_velocity, 0.0
    return slopes


def _stopped(spline: Spline, joints: Array, lower: Array, upper: Array) -> Spline:
    """Bring ``joints`` to rest before the bound ahead of each, within half the first segment.

    From velocity v to rest in time T a cubic that decelerates linearly covers v T / 3.
    """
    position, velocity = spline.positions[0, joints], spline.velocities[0, joints]
    room = np.where(velocity > 0, upper[joints] - position, position - lower[joints])
    half = (spline.times_s[1] - spline.times_s[0]) / 2
    stop = min(half, float((3 * room / np.maximum(np.abs(velocity), 1e-9)).min()))
    if stop < SHORTEST_STOP_S:  # at the bound and moving out: left to the caller's check
        return spline
    spline = spline.with_knot(spline.times_s[0] + stop)
    spline.positions[1, joints] = position + velocity * stop / 3
    spline.velocities[1, joints] = 0.0
    return spline


def _turning_points(linear: Array, b: Array, a: Array) -> tuple[Array, Array]:
    """Return the roots of ``linear + 2 b u + 3 a u^2``, moved into [0, 1]; 0 where none is."""
    root = np.sqrt(np.maximum(b * b - 3 * a * linear, 0.0))
    q = -(b + np.copysign(root, b))
    return _inside(_divide(q, 3 * a)), _inside(_divide(linear, q))


def _divide(numerator: Array, denominator: Array) -> Array:
    """Return the quotient, 0 where the denominator is."""
    nonzero = np.abs(denominator) > 1e-300
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=nonzero)


def _inside(u: Array) -> Array:
    """Clip to [0, 1]: a point of the curve even where there is no root."""
    return np.clip(u, 0.0, 1.0)
