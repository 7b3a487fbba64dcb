"""From the targets of a chunk to one checked trajectory per arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.joints import ARM_JOINTS
from dfm_vla_ros.robot.limits import (
    DEFAULT_SETTINGS,
    ROUNDING,
    JointLimits,
    PlanRefused,
    PlanSettings,
    PlanTooLate,
)
from dfm_vla_ros.robot.progress import Trajectory
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


@dataclass(frozen=True)
class Plan:
    """Trajectories that start together.

    Attributes:
        trajectories: arm -> its trajectory; times count from ``stamp_s``.
        joined: the same with all D joints in one.
        stamp_s: what the header of both carries, before the first point.
        time_scale: >= 1, how much slower than asked.
        first_step: number of steps dropped because they were past.
        start_s: where the new motion joins the old one.
        spline: the new motion, its times from ``start_s``.
    """

    trajectories: Mapping[str, Trajectory]
    joined: Trajectory
    stamp_s: float
    time_scale: float
    first_step: int
    start_s: float
    spline: Spline

    @property
    def end_s(self) -> float:
        """When the arms come to rest, on the clock of ``stamp_s`` [s]."""
        return self.stamp_s + float(self.joined.times_s[-1])


@dataclass(frozen=True)
class Approach:
    """Points of the old motion between a stamp and the joining: repeated, it goes on exactly.

    Attributes:
        stamp_s: the stamp of the trajectories, before every point.
        times_s: (P,) from the stamp, increasing; P may be 0.
        positions, velocities: (P, D) commanded then.
    """

    stamp_s: float
    times_s: Array
    positions: Array
    velocities: Array


def plan(
    targets: Array,
    due_s: Array,
    now_s: float,
    position: Array,
    velocity: Array,
    limits: JointLimits,
    settings: PlanSettings = DEFAULT_SETTINGS,
    smallest_time_scale: float = 1.0,
    approach: Approach | None = None,
) -> Plan:
    """Plan from the state commanded at ``now_s`` through the ``targets`` still ahead, to rest.

    Args:
        targets: (H, D) commanded positions [rad], grippers [m].
        due_s: (H,) when each is due at time scale 1 [s], increasing.
        now_s: where the new motion starts, on the same clock; the trajectories' stamp lies
            ``settings.lead_s`` before it unless ``approach`` names one.
        position: (D,) commanded at ``now_s`` [rad], grippers [m].
        velocity: (D,) commanded at ``now_s`` [rad/s], grippers [m/s].
        limits: the D joints.
        settings: margins and bounds.
        smallest_time_scale: >= 1, run at least this much slower.
        approach: how the old motion reaches ``now_s``.

    Raises:
        PlanTooLate: no step is ahead.
        PlanRefused: a number is not finite, a target far outside the limits, the first target too
            far away, or no time scale up to the largest keeps velocity, acceleration and jerk.
    """
    _check_finite(targets, due_s, position, velocity, limits)
    ahead = due_s >= now_s + settings.minimum_gap_s
    if not ahead.any():
        raise PlanTooLate(
            f"the last step was due {now_s - due_s[-1]:.3f} s ago (at least "
            f"{settings.minimum_gap_s} s ahead is needed): inference takes longer than the chunk"
        )
    wanted = _within_limits(targets[ahead], limits, settings)
    _check_jump(wanted[0], position, limits, settings)
    spline, scale = slowed(
        wanted, due_s[ahead] - now_s, position, velocity, limits, settings, smallest_time_scale
    )
    approach = approach or approach_at(now_s - settings.lead_s, len(limits.names))
    return assemble(spline, limits, now_s, approach, scale, int(np.argmax(ahead)))


def approach_at(stamp_s: float, joints: int) -> Approach:
    """Return an approach without points."""
    none = np.empty((0, joints))
    return Approach(stamp_s, np.empty(0), none, none)


def assemble(
    spline: Spline,
    limits: JointLimits,
    start_s: float,
    approach: Approach,
    time_scale: float,
    first_step: int,
) -> Plan:
    """Return the plan of both arms: the approach, then ``spline`` from ``start_s``."""
    lead_s = start_s - approach.stamp_s
    skip = 0 if lead_s > 0 else 1  # a first point at time 0 is none that a controller takes
    joined = Trajectory(
        limits.names,
        np.concatenate([approach.times_s, spline.times_s[skip:] + lead_s]),
        np.concatenate([approach.positions, spline.positions[skip:]]),
        np.concatenate([approach.velocities, spline.velocities[skip:]]),
    )
    arms = {arm: _part(joined, names) for arm, names in ARM_JOINTS.items()}
    trajectories = {arm: part for arm, part in arms.items() if part.joint_names}
    return Plan(trajectories, joined, approach.stamp_s, time_scale, first_step, start_s, spline)


def _part(joined: Trajectory, names: tuple[str, ...]) -> Trajectory:
    """Return the trajectory of those joints of ``names`` that ``joined`` has."""
    columns = [joined.joint_names.index(name) for name in names if name in joined.joint_names]
    return Trajectory(
        tuple(joined.joint_names[c] for c in columns),
        joined.times_s,
        joined.positions[:, columns],
        joined.velocities[:, columns],
    )


def _check_finite(
    targets: Array, due_s: Array, position: Array, velocity: Array, limits: JointLimits
) -> None:
    """Refuse anything that is not a finite number, and wrong sizes."""
    joints = len(limits.names)
    if targets.ndim != 2 or targets.shape != (due_s.size, joints) or not due_s.size:
        raise PlanRefused(f"targets have shape {targets.shape}, expected ({due_s.size}, {joints})")
    for name, values in (("target", targets), ("position", position), ("velocity", velocity)):
        broken = np.argwhere(~np.isfinite(values))
        if broken.size:
            joint = limits.names[broken[0][-1]]
            raise PlanRefused(f"{name} of {joint} is {values[tuple(broken[0])]}, not finite")
    if not np.isfinite(due_s).all() or (np.diff(due_s) <= 0).any():
        raise PlanRefused(f"the due times {due_s} must be finite and increase")


def _within_limits(targets: Array, limits: JointLimits, settings: PlanSettings) -> Array:
    """Return targets moved to the limits, or refuse those far outside."""
    tolerance = np.where(limits.prismatic, settings.tolerance_m, settings.tolerance_rad)
    outside = np.maximum(limits.lower - targets, targets - limits.upper) - tolerance
    step, joint = np.unravel_index(np.argmax(outside), outside.shape)
    if outside[step, joint] > 0:
        raise PlanRefused(
            f"target of {limits.names[joint]} is {targets[step, joint]:.4f} "
            f"{limits.units(joint)}, allowed is {limits.lower[joint]} .. {limits.upper[joint]} "
            f"(moved to the limit up to {tolerance[joint]} outside)"
        )
    inner = limits.shrunk(settings.margin_rad)
    return np.clip(targets, inner.lower, inner.upper)


def _check_jump(
    first: Array, position: Array, limits: JointLimits, settings: PlanSettings
) -> None:
    """Refuse a first target far from the command: policy and executor disagree on where it is."""
    jump = np.where(limits.prismatic, 0.0, np.abs(first - position))
    joint = int(np.argmax(jump))
    if jump[joint] > settings.jump_rad:
        raise PlanRefused(
            f"first target of {limits.names[joint]} is {first[joint]:.4f} rad, "
            f"{jump[joint]:.4f} from the commanded {position[joint]:.4f}; "
            f"allowed is {settings.jump_rad}"
        )


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
