"""The twin's trajectory controller: what ros2_controllers' joint_trajectory_controller does.

Branch jazzy, with ``interpolate_from_desired_state: true`` and the other parameters at their
defaults. Stricter than the original, it refuses duplicate joint names and numbers that are not
finite or beyond ``LARGEST``. ``nodes/messages.py`` also refuses velocities at some points
only, accelerations and efforts (the original checks sizes and makes accelerations quintics).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import TrajectoryRefused
from dfm_vla_ros.robot.progress import Reference, Trajectory

Array = NDArray[np.float64]

# As the original: the smallest step of a single-precision number above 1.
STANDSTILL = float(np.finfo(np.float32).eps)
_BEFORE_S = 1e-6
LARGEST = 1e6
"""Of any time, position or velocity: far beyond every robot, and no polynomial overflows."""


class TrajectoryController:
    """Commands of one joint group: follows the newest trajectory, then holds its last point."""

    def __init__(self, joint_names: Sequence[str], positions: Array) -> None:
        """Hold ``positions`` (J,) [rad], grippers [m], until a trajectory arrives."""
        self.joint_names = tuple(joint_names)
        self._reference = Reference(positions)

    def receive(self, trajectory: Trajectory, start_s: float, now_s: float) -> None:
        """Replace the running trajectory by ``trajectory``; its times count from ``start_s``.

        A start of 0 means now. Up to the first point the command runs from the state commanded
        now. If the first point is already past, the trajectory is joined where it is by now,
        without a transition, as the original does: a sender must leave time for the transport.

        Args:
            trajectory: any order of this controller's joints.
            start_s: the message's stamp [s], on the clock of ``now_s``.
            now_s: the time of arrival [s].

        Raises:
            TrajectoryRefused: for the reasons in :func:`validate`; the old one runs on.
        """
        start_s = now_s if start_s == 0.0 else start_s
        validate(trajectory, self.joint_names, start_s, now_s)
        ordered = _reorder(trajectory, self.joint_names)
        first_s = start_s + ordered.times_s[0]
        if first_s > now_s:
            self._reference.replace(ordered, start_s, now_s)
            return
        self._reference = Reference(ordered.positions[0])
        self._reference.replace(ordered, start_s, first_s - _BEFORE_S)

    def sample(self, now_s: float) -> tuple[Array, Array]:
        """Return position (J,) and velocity (J,) commanded at ``now_s`` [s]."""
        return self._reference.sample(now_s)


def validate(
    trajectory: Trajectory, joint_names: tuple[str, ...], start_s: float, now_s: float
) -> None:
    """Check a trajectory before anything moves.

    Raises:
        TrajectoryRefused: for wrong joint names, no points, wrong sizes, numbers that are not
            finite or too large, times that do not increase, an end in the past, a last point that
            still moves.
    """
    _check_names(trajectory.joint_names, joint_names)
    _check_sizes(trajectory)
    _check_numbers(trajectory)
    _check_times(trajectory.times_s)
    end_s = start_s + float(trajectory.times_s[-1])
    if end_s < now_s:
        raise TrajectoryRefused(
            f"the trajectory ended at {end_s:.3f} s, before now, {now_s:.3f} s; stamp it later, "
            "or 0 for now"
        )
    _check_end(trajectory)


def _check_names(given: Sequence[str], own: tuple[str, ...]) -> None:
    """All of the controller's joints, each once, in any order."""
    missing = [name for name in own if name not in given]
    unknown = [name for name in given if name not in own]
    duplicate = sorted({name for name in given if list(given).count(name) > 1})
    for what, names in (("unknown", unknown), ("duplicate", duplicate), ("missing", missing)):
        if names:
            raise TrajectoryRefused(
                f"{what} joints {', '.join(names)}; name each of {', '.join(own)} once"
            )


def _check_sizes(trajectory: Trajectory) -> None:
    """At least one point; positions, and velocities if any, for every joint at every time."""
    points = len(trajectory.times_s)
    if points == 0:
        raise TrajectoryRefused("the trajectory has no points; send at least one")
    shape = (points, len(trajectory.joint_names))
    for name, field in (
        ("positions", trajectory.positions),
        ("velocities", trajectory.velocities),
    ):
        if field is not None and np.shape(field) != shape:
            raise TrajectoryRefused(
                f"{name} have shape {np.shape(field)}, not (points, joints) = {shape}; "
                "give a number for every joint at every point"
            )


def _check_numbers(trajectory: Trajectory) -> None:
    """Nothing is NaN, infinite or beyond what can be computed with."""
    for name in ("times_s", "positions", "velocities"):
        field = getattr(trajectory, name)
        if field is None:
            continue
        usable = np.abs(field) <= LARGEST
        if not usable.all():
            at = np.argwhere(~usable)[0]
            raise TrajectoryRefused(
                f"{name}{at.tolist()} is {field[tuple(at)]}; all numbers must be finite and "
                f"within ±{LARGEST:.0e}"
            )


def _check_times(times_s: Array) -> None:
    """Times increase strictly."""
    stuck = np.flatnonzero(np.diff(times_s) <= 0)
    if stuck.size:
        i = int(stuck[0])
        raise TrajectoryRefused(
            f"times of points {i} and {i + 1} are {times_s[i]:.6f} s and {times_s[i + 1]:.6f} s; "
            "they must increase strictly"
        )


def _check_end(trajectory: Trajectory) -> None:
    """The last point is at rest, so a controller that hears nothing more stands still."""
    if trajectory.velocities is None:
        return
    last = np.abs(trajectory.velocities[-1])
    if last.max() > STANDSTILL:
        i = int(last.argmax())
        raise TrajectoryRefused(
            f"the last point moves {trajectory.joint_names[i]} at "
            f"{trajectory.velocities[-1][i]:.6f} (allowed {STANDSTILL:.1e}); end at rest"
        )


def _reorder(trajectory: Trajectory, joint_names: tuple[str, ...]) -> Trajectory:
    """Return the trajectory with its columns in the controller's order."""
    if trajectory.joint_names == joint_names:
        return trajectory
    columns = [trajectory.joint_names.index(name) for name in joint_names]
    velocities = trajectory.velocities
    return Trajectory(
        joint_names=joint_names,
        times_s=trajectory.times_s,
        positions=trajectory.positions[:, columns],
        velocities=None if velocities is None else velocities[:, columns],
    )
