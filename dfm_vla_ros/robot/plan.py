"""From the targets of a chunk to one checked trajectory per arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.robot.joints import ARM_JOINTS
from dfm_vla_ros.robot.limits import JointLimits
from dfm_vla_ros.robot.reference import Trajectory
from dfm_vla_ros.robot.spline import Spline, bounded

Array = NDArray[np.float64]

ROUNDING = 1e-9
"""What a bound may be passed by without being violated [rad, m, relative]."""


class PlanRefused(DfmVlaError):
    """The targets cannot be followed safely; the message names joint, value and bound."""


class PlanTooLate(PlanRefused):
    """Every step is already past."""


@dataclass(frozen=True)
class PlanSettings:
    """How targets become trajectories.

    Attributes:
        lead_s: from the stamp of the trajectories to their first point. A controller that gets
            them within this time follows the old trajectory into the new one without a step.
        minimum_gap_s: a step due sooner after the first point than this is dropped.
        margin_rad: kept from both position limits by revolute joints.
        tolerance_rad: how far outside a target is moved to the limit; one further out refuses the
            chunk.
        tolerance_m: the same for a gripper.
        jump_rad: largest distance of a revolute joint to its first target.
        largest_time_scale: a chunk that would need more is refused.
    """

    lead_s: float = 0.02
    minimum_gap_s: float = 0.05
    margin_rad: float = 0.005
    tolerance_rad: float = 0.2
    tolerance_m: float = 0.01
    jump_rad: float = 0.6
    largest_time_scale: float = 10.0


DEFAULT_SETTINGS = PlanSettings()


@dataclass(frozen=True)
class Plan:
    """Trajectories that start together.

    Attributes:
        trajectories: arm -> its trajectory; times count from ``stamp_s``.
        joined: the same with all D joints in one.
        stamp_s: what the header of both carries, before the first point.
        time_scale: >= 1, how much slower than asked.
        first_step: number of steps dropped because they were past.
    """

    trajectories: Mapping[str, Trajectory]
    joined: Trajectory
    stamp_s: float
    time_scale: float
    first_step: int

    @property
    def end_s(self) -> float:
        """When the arms come to rest, on the clock of ``stamp_s`` [s]."""
        return self.stamp_s + float(self.joined.times_s[-1])


def plan(
    targets: Array,
    due_s: Array,
    now_s: float,
    position: Array,
    velocity: Array,
    limits: JointLimits,
    settings: PlanSettings = DEFAULT_SETTINGS,
) -> Plan:
    """Plan from the state commanded at ``now_s`` through the ``targets`` still ahead, to rest.

    Args:
        targets: (H, D) commanded positions [rad], grippers [m].
        due_s: (H,) when each is due [s], increasing.
        now_s: where the new motion starts, on the same clock; the trajectories' stamp lies
            ``settings.lead_s`` before it.
        position: (D,) commanded at ``now_s`` [rad], grippers [m].
        velocity: (D,) commanded at ``now_s`` [rad/s], grippers [m/s].
        limits: the D joints.
        settings: margins and bounds.

    Raises:
        PlanTooLate: no step is ahead.
        PlanRefused: a number is not finite, a target far outside the limits, the first target too
            far away, or no time scale up to the largest keeps velocity and acceleration.
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
    spline, scale = _slowed(wanted, due_s[ahead] - now_s, position, velocity, limits, settings)
    first_step = int(np.argmax(ahead))
    return _split(spline, limits, now_s - settings.lead_s, settings.lead_s, scale, first_step)


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


def _slowed(
    wanted: Array,
    due_s: Array,
    position: Array,
    velocity: Array,
    limits: JointLimits,
    settings: PlanSettings,
) -> tuple[Spline, float]:
    """Return the spline at the smallest time scale found that keeps every limit, and the scale.

    All joints of both arms share the scale, so the shape of the motion stays.
    """
    points = np.concatenate([position[None], wanted])
    inner = limits.shrunk(settings.margin_rad)
    # A command that already lies outside may stay there and come back, never go further out.
    lower, upper = np.minimum(inner.lower, position), np.maximum(inner.upper, position)
    scale = 1.0
    while True:
        times = np.concatenate([[0.0], due_s * scale])
        spline = bounded(times, points, velocity, lower - ROUNDING, upper + ROUNDING)
        fault, slower = _violation(spline, limits, lower, upper)
        if fault is None:
            return spline, scale
        scale *= max(slower, 1.01)
        if scale > settings.largest_time_scale:
            raise PlanRefused(f"{fault} even {settings.largest_time_scale} times slower")


def _violation(
    spline: Spline, limits: JointLimits, lower: Array, upper: Array
) -> tuple[str | None, float]:
    """Return what is violated, as text, and how much slower it should run."""
    smallest, largest, speed, bend = spline.extremes()
    outside = np.maximum(lower - smallest, largest - upper)
    joint = int(np.argmax(outside))
    if outside[joint] > 2 * ROUNDING:
        extreme = smallest[joint] if smallest[joint] < lower[joint] else largest[joint]
        return (
            f"{limits.names[joint]} swings to {extreme:.4f} {limits.units(joint)}, allowed is "
            f"{lower[joint]:.4f} .. {upper[joint]:.4f},"
        ), 1.1
    for what, values, bounds, power in (
        ("velocity", speed, limits.velocity, 1.0),
        ("acceleration", bend, limits.acceleration, 0.5),
    ):
        excess = values / bounds
        joint = int(np.argmax(excess))
        if excess[joint] > 1 + ROUNDING:
            text = f"{what} of {limits.names[joint]} is {values[joint]:.3f}, allowed is"
            return f"{text} {bounds[joint]},", float(excess[joint] ** power)
    return None, 1.0


def _split(
    spline: Spline,
    limits: JointLimits,
    stamp_s: float,
    lead_s: float,
    time_scale: float,
    first_step: int,
) -> Plan:
    """Return the plan with one trajectory per arm; the start itself is the first point."""
    skip = 0 if lead_s > 0 else 1  # a first point at time 0 is none that a controller takes
    times = spline.times_s[skip:] + lead_s
    positions, velocities = spline.positions[skip:], spline.velocities[skip:]
    trajectories = {}
    for arm, names in ARM_JOINTS.items():
        columns = [limits.names.index(name) for name in names if name in limits.names]
        if columns:
            chosen = tuple(limits.names[c] for c in columns)
            trajectories[arm] = Trajectory(
                chosen, times, positions[:, columns], velocities[:, columns]
            )
    joined = Trajectory(limits.names, times, positions, velocities)
    return Plan(trajectories, joined, stamp_s, time_scale, first_step)
