"""From the targets of a chunk to one checked trajectory per arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.joints import ARM_JOINTS
from dfm_vla_ros.robot.limits import JointLimits
from dfm_vla_ros.robot.reference import Trajectory
from dfm_vla_ros.robot.scaling import slowed
from dfm_vla_ros.robot.settings import DEFAULT_SETTINGS, PlanRefused, PlanSettings, PlanTooLate
from dfm_vla_ros.robot.spline import Spline

__all__ = ["DEFAULT_SETTINGS", "Approach", "Plan", "PlanRefused", "PlanSettings", "PlanTooLate"]

Array = NDArray[np.float64]


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
