"""The running reference of one joint group: a spline that is replaced, sampled and held."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trajectory:
    """Waypoints of one joint group, as in trajectory_msgs/JointTrajectory.

    Attributes:
        joint_names: the J joints.
        times_s: (P,) seconds from the trajectory's start, strictly increasing.
        positions: (P, J) [rad], gripper [m].
        velocities: (P, J) [rad/s], gripper [m/s], or None (positions only).
    """

    joint_names: tuple[str, ...]
    times_s: Array
    positions: Array
    velocities: Array | None = None


class Reference:
    """What a joint_trajectory_controller commands now (ros2_controllers, branch jazzy).

    A new trajectory replaces the running one. Until its first point the command runs from the
    state commanded at that moment to that point; if the first point is already past, the command
    jumps onto the trajectory, as the controller's does. Between points with velocities the
    interpolation is cubic, without it is linear; after the last point the last position is held.
    """

    def __init__(self, positions: Array) -> None:
        """Hold ``positions`` (J,) until a trajectory arrives."""
        held = np.array(positions, dtype=np.float64)
        self._times = np.zeros(1)
        self._positions = held[None]
        self._velocities: Array | None = np.zeros_like(self._positions)

    def replace(self, trajectory: Trajectory, start_s: float, now_s: float) -> None:
        """Follow ``trajectory``, whose times count from ``start_s``; both on one clock [s].

        The trajectory must not have ended: a controller refuses one that has.
        """
        position, velocity = self.sample(now_s)
        self._times = trajectory.times_s + start_s
        self._positions = trajectory.positions
        self._velocities = trajectory.velocities
        if now_s >= self._times[0]:
            return
        self._times = np.concatenate([[now_s], self._times])
        self._positions = np.concatenate([position[None], self._positions])
        if self._velocities is not None:
            self._velocities = np.concatenate([velocity[None], self._velocities])

    def sample(self, now_s: float) -> tuple[Array, Array]:
        """Return position (J,) and velocity (J,) commanded at ``now_s`` [s]."""
        times, positions = self._times, self._positions
        if now_s >= times[-1]:
            return positions[-1].copy(), np.zeros_like(positions[-1])
        if now_s <= times[0]:
            rest = np.zeros_like(positions[0])
            return positions[0].copy(), rest if self._velocities is None else self._velocities[0]
        i = int(np.searchsorted(times, now_s, side="right")) - 1
        span = times[i + 1] - times[i]
        u = (now_s - times[i]) / span
        step = positions[i + 1] - positions[i]
        if self._velocities is None:
            return positions[i] + u * step, step / span
        return _hermite(u, span, positions[i], step, self._velocities[i], self._velocities[i + 1])

    def knots(self, after_s: float, before_s: float) -> tuple[Array, Array, Array]:
        """Return times (P,), positions and velocities (P, J) of the points between, exclusive."""
        inside = (self._times > after_s) & (self._times < before_s)
        positions, velocities = self._positions[inside], self._velocities
        speeds = np.zeros_like(positions) if velocities is None else velocities[inside]
        return self._times[inside], positions, speeds


def _hermite(
    u: float, span: float, start: Array, step: Array, v0: Array, v1: Array
) -> tuple[Array, Array]:
    """Cubic with given end positions and velocities, at u in [0, 1]: value and derivative."""
    a = span * (v0 + v1) - 2 * step
    b = 3 * step - span * (2 * v0 + v1)
    position = start + u * (span * v0 + u * (b + u * a))
    velocity = (span * v0 + u * (2 * b + 3 * u * a)) / span
    return position, velocity
