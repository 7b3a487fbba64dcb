"""From a commanded state to rest as fast as the limits allow, all joints together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.limits import JointLimits
from dfm_vla_ros.robot.plan import Approach, Plan, assemble
from dfm_vla_ros.robot.scaling import reachable
from dfm_vla_ros.robot.settings import PlanSettings
from dfm_vla_ros.robot.spline import Spline

Array = NDArray[np.float64]

SHORTEST_S = 0.01
"""A brake lasts at least this long."""
CLOSEST_S = 1e-5
"""Points nearer to each other than this are one."""
_TINY = 1e-12
_STILL = 1e-9


def brake(
    position: Array,
    velocity: Array,
    start_s: float,
    approach: Approach,
    limits: JointLimits,
    settings: PlanSettings,
) -> Plan:
    """Return the plan that brings the state at ``start_s`` to rest.

    Every joint's speed falls along one shape: the deceleration rises linearly for R seconds, stays
    at ``v / P`` and falls linearly for R again, so the joint stops after ``T = P + R`` and covers
    ``v T / 2``. Bounds A and J ask for ``P >= v / A`` and ``P R >= v / J`` of every joint; the
    shortest T has ``P = max(v / A, sqrt(v / J))``. A joint whose position bound lies nearer stops
    sooner, as smoothly as its acceleration allows, and passes the bound only if no allowed
    deceleration can help it.

    Args:
        position: (D,) commanded at ``start_s`` [rad], grippers [m].
        velocity: (D,) commanded then [rad/s], grippers [m/s].
        start_s: where braking begins.
        approach: how the old motion reaches ``start_s``.
        limits: the D joints.
        settings: the margin of the position limits.
    """
    speed = np.abs(velocity)
    plateau = max(
        float((speed / limits.acceleration).max()), float(np.sqrt((speed / limits.jerk).max()))
    )
    plateau = max(plateau, SHORTEST_S / 2)
    ramp_s = max(float((speed / limits.jerk).max()) / plateau, SHORTEST_S / 2)
    together = plateau + ramp_s
    lower, upper = reachable(position, limits, settings)
    room = np.where(velocity > 0, upper - position, position - lower)
    lasting, ramp = _hurried(speed, room, together, ramp_s, limits)
    spline = _spline(position, velocity, lasting, ramp, together)
    return assemble(spline, limits, start_s, approach, 1.0, 0)


def _hurried(
    speed: Array, room: Array, together: float, ramp_s: float, limits: JointLimits
) -> tuple[Array, Array]:
    """Return duration and ramp (D,) of each joint's stop, inside ``room`` (D,) if it can be."""
    quickest = np.maximum(speed / limits.acceleration, 2 * CLOSEST_S)
    allowed = np.maximum(2 * np.maximum(room, 0.0) / np.maximum(speed, _TINY), quickest)
    hurried = (allowed < together) & (speed > _STILL)
    lasting = np.where(hurried, allowed, together)
    ramp = np.where(hurried, np.minimum(lasting / 2, lasting - quickest), ramp_s)
    return lasting, ramp


def _spline(
    position: Array, velocity: Array, lasting: Array, ramp: Array, together: float
) -> Spline:
    """Return the stops of all joints as one spline: its points are all joints' corners."""
    corners = np.concatenate([ramp, lasting - ramp, lasting])
    times = _distinct(corners, together)
    moved = [_travelled(t, lasting, ramp) for t in times]
    positions = position + velocity * np.array([covered for covered, _ in moved])
    velocities = velocity * np.array([share for _, share in moved])
    velocities[-1] = 0.0
    return Spline(times, positions, velocities)


def _distinct(corners: Array, together: float) -> Array:
    """Return 0, the corners that lie apart, and the end, increasing."""
    times = [0.0]
    for corner in np.sort(corners):
        if times[-1] + CLOSEST_S < corner < together - CLOSEST_S:
            times.append(float(corner))
    return np.array([*times, together])


def _travelled(t: float, lasting: Array, ramp: Array) -> tuple[Array, Array]:
    """Return the way covered at ``t``, as a multiple of the first velocity, and its share left.

    The deceleration's plateau is ``d = 1 / (T - R)`` for ramps of R in a stop of T.
    """
    safe, r = np.maximum(lasting, _TINY), np.maximum(ramp, _TINY)
    d = 1.0 / np.maximum(safe - ramp, _TINY)
    # A point just before a joint's stop is its stop: what is left would carry it on.
    t = np.where((t > 0) & (t >= safe - CLOSEST_S), safe, t)
    early, late = np.minimum(t, ramp), np.maximum(t - (safe - ramp), 0.0)
    even = t - early - late
    share = 1 - d * early**2 / (2 * r) - d * even - d * late * (1 - late / (2 * r))
    covered = (
        early
        - d * early**3 / (6 * r)
        + (1 - d * ramp / 2) * even
        - d * even**2 / 2
        + d * ramp / 2 * late
        - d * late**2 / 2
        + d * late**3 / (6 * r)
    )
    return covered, np.where(t < safe, np.maximum(share, 0.0), 0.0)
