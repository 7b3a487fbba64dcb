"""What a joint_trajectory_controller accepts and commands, written down a second time."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from dfm_vla_ros.robot.joints import ARM_JOINTS
from dfm_vla_ros.robot.plan import Plan
from dfm_vla_ros.robot.progress import Trajectory

SHORT_S = 1e-4
"""No controller resolves a shorter segment; rounding alone makes its third derivative large."""


def assert_acceptable(made: Plan, now_s: float) -> None:
    """Both arms, one stamp, and nothing that a controller refuses."""
    assert set(made.trajectories) == {"left", "right"}
    left, right = made.trajectories["left"], made.trajectories["right"]
    assert np.array_equal(left.times_s, right.times_s)
    for arm, trajectory in made.trajectories.items():
        names, times = trajectory.joint_names, trajectory.times_s
        assert sorted(names) == sorted(ARM_JOINTS[arm]) and len(set(names)) == 7
        assert times.ndim == 1 and times.size >= 1
        shape = (times.size, 7)
        assert trajectory.positions.shape == trajectory.velocities.shape == shape
        for values in (times, trajectory.positions, trajectory.velocities):
            assert np.isfinite(values).all()
        assert (np.diff(times) > 0).all()
        rounded = np.rint(times * 1e9)  # a message counts nanoseconds
        assert rounded[0] > 0 and (np.diff(rounded) > 0).all()
        assert made.stamp_s + times[0] > now_s and made.stamp_s <= now_s
        assert made.stamp_s + times[-1] >= now_s
        assert (trajectory.velocities[-1] == 0).all()
    both = np.concatenate([left.positions, right.positions], axis=1)
    assert np.array_equal(both, made.joined.positions)


class Commands:
    """Cubics between points, from the state commanded when a trajectory arrives, then rest."""

    def __init__(self, positions: np.ndarray) -> None:
        self.curve: CubicHermiteSpline | None = None
        self.last = positions.copy()

    def receive(self, trajectory: Trajectory, start_s: float, now_s: float) -> None:
        position, velocity = self.at(now_s)
        self.curve = CubicHermiteSpline(
            np.concatenate([[now_s], start_s + trajectory.times_s]),
            np.concatenate([position[None], trajectory.positions]),
            np.concatenate([velocity[None], trajectory.velocities]),
        )
        self.slope = self.curve.derivative()
        self.last = trajectory.positions[-1]

    def at(self, t_s: float) -> tuple[np.ndarray, np.ndarray]:
        if self.curve is None or t_s >= self.curve.x[-1]:
            return self.last.copy(), np.zeros_like(self.last)
        return self.curve(t_s), self.slope(t_s)


def dense(
    times: np.ndarray, positions: np.ndarray, velocities: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Position, velocity, acceleration (M, D) and jerk (P-1, D), from the Hermite basis."""
    h = np.diff(times)[:, None, None]
    p0, p1 = positions[:-1, None], positions[1:, None]
    m0, m1 = velocities[:-1, None] * h, velocities[1:, None] * h
    u = np.linspace(0.0, 1.0, 21)[None, :, None]
    place = (1 + 2 * u) * (1 - u) ** 2 * p0 + u * (1 - u) ** 2 * m0
    place = place + u**2 * (3 - 2 * u) * p1 + u**2 * (u - 1) * m1
    slope = 6 * u * (1 - u) * (p1 - p0) + (1 - u) * (1 - 3 * u) * m0 + u * (3 * u - 2) * m1
    bend = (6 - 12 * u) * (p1 - p0) + (6 * u - 4) * m0 + (6 * u - 2) * m1
    jerk = -12 * (p1 - p0) + 6 * (m0 + m1)
    long = h[:, 0, 0] >= SHORT_S
    rows = (place, slope / h, (bend / h**2)[long], (jerk / h**3)[long])
    return tuple(values.reshape(-1, positions.shape[1]) for values in rows)
