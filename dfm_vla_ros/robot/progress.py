"""Control steps counted over time, the phase of a chunk, and what became of all chunks."""

from __future__ import annotations

from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Progress:
    """The phase of the chunk being followed: its step k is due at step_zero + k step_period.

    Attributes:
        goal_id, chunk_id: the newest chunk accepted.
        step_zero_s: when none of its steps was due yet [s].
        step_period_s: between its steps as executed [s]; 0: it is no longer followed.
        last_step: where its motion rests; if no longer followed, how many steps were executed.
    """

    goal_id: str
    chunk_id: int
    step_zero_s: float
    step_period_s: float
    last_step: int

    def at(self, t_s: float) -> float:
        """Return the steps executed at ``t_s``, in [0, last_step]; last_step if not followed."""
        if self.step_period_s == 0:
            return float(self.last_step)
        steps = (t_s - self.step_zero_s) / self.step_period_s
        return float(np.clip(steps, 0.0, self.last_step))

    def ended(self, t_s: float) -> Progress:
        """Return the same chunk, no longer followed from ``t_s`` on."""
        if self.step_period_s == 0:
            return self
        return replace(self, step_zero_s=t_s, step_period_s=0.0, last_step=int(self.at(t_s)))


class StepCount:
    """Phi(t): control steps executed until t, piecewise linear, remembered for a while.

    It rises by one a step period while a chunk's motion runs and is flat otherwise.
    """

    def __init__(self, memory_s: float = 10.0) -> None:
        """Begin at 0; forget what is older than ``memory_s`` before the newest change."""
        self._memory_s = memory_s
        self._times = np.zeros(1)
        self._steps = np.zeros(1)

    def at(self, t_s: float) -> float:
        """Return Phi at ``t_s``, as it is planned if that is ahead."""
        return float(np.interp(t_s, self._times, self._steps))

    def when(self, steps: float) -> float | None:
        """Return when Phi reaches ``steps``, which lies ahead [s]; None: the plan ends before."""
        if steps > self._steps[-1] + 1e-9:
            return None
        return float(np.interp(steps, self._steps, self._times))

    def run(self, start_s: float, steps: float, step_period_s: float) -> None:
        """From ``start_s`` on count ``steps`` more, one a ``step_period_s``, then none."""
        begin = self.at(start_s)
        keep = (self._times < start_s) & (self._times >= start_s - self._memory_s)
        oldest_s = start_s - self._memory_s
        times = [oldest_s, *self._times[keep], start_s]
        counts = [self.at(oldest_s), *self._steps[keep], begin]
        if steps > 0:
            times.append(start_s + steps * step_period_s)
            counts.append(begin + steps)
        self._times, self._steps = np.array(times), np.array(counts)

    def stop(self, t_s: float) -> None:
        """Count nothing from ``t_s`` on."""
        self.run(t_s, 0.0, 0.0)


@dataclass(frozen=True)
class Account:
    """What became of the chunks: received = executed + refused + superseded + pending.

    Attributes:
        received: all.
        executed: their motion began.
        refused: whole.
        superseded: accepted, but replaced or stopped before their motion began.
        pending: 0 or 1, accepted, motion not begun.
    """

    received: int = 0
    executed: int = 0
    refused: int = 0
    superseded: int = 0
    pending: int = 0


class Ledger:
    """Keeps the account."""

    def __init__(self) -> None:
        """Begin with nothing received."""
        self._account = Account()
        self._begins_s = np.inf

    def at(self, now_s: float) -> Account:
        """Return the account once a chunk whose first point has passed counts as executed."""
        if self._account.pending and now_s >= self._begins_s:
            self._move("pending", "executed")
        return self._account

    def accept(self, begins_s: float, now_s: float) -> None:
        """A chunk was accepted; its motion begins at ``begins_s``."""
        self.supersede(now_s)
        self._add("pending")
        self._begins_s = begins_s

    def refuse(self) -> None:
        """A chunk was refused."""
        self._add("refused")

    def supersede(self, now_s: float) -> None:
        """What was pending, if its motion has not begun by ``now_s``, never begins."""
        if self.at(now_s).pending:
            self._move("pending", "superseded")

    def _add(self, kind: str) -> None:
        account = self._account
        counts = {"received": account.received + 1, kind: getattr(account, kind) + 1}
        self._account = replace(account, **counts)

    def _move(self, source: str, target: str) -> None:
        account = self._account
        moved = {source: getattr(account, source) - 1, target: getattr(account, target) + 1}
        self._account = replace(account, **moved)
