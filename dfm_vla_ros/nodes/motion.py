"""What is being commanded: plans that take over from one another where they begin."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.plan import Plan
from dfm_vla_ros.robot.reference import Reference, Trajectory

Array = NDArray[np.float64]

REJOIN_S = 0.1
"""In which a motion that takes over late finds its way onto the plan."""


class Motion:
    """Samples the newest plan that has begun; written by one thread, read by another.

    A plan starts from the state that the one before commands then, so taking over exactly there
    leaves position and velocity without a step. One that comes later than that (busy cores) is
    joined along a cubic: the difference fades to nothing within `REJOIN_S`.
    """

    def __init__(self) -> None:
        """Command nothing yet."""
        self._lock = threading.Lock()
        self._parts: deque[tuple[float, Reference]] = deque()
        self._leave_s = float("inf")
        self._late: tuple[float, Reference] | None = None

    def follow(self, plan: Plan, now_s: float) -> None:
        """Take over where ``plan`` joins what was commanded before, or now if that is past."""
        start_s, spline = plan.start_s, plan.spline
        reference = Reference(spline.positions[0])
        names = plan.joined.joint_names
        curve = Trajectory(names, spline.times_s, spline.positions, spline.velocities)
        reference.replace(curve, start_s, start_s)
        with self._lock:
            if now_s > start_s:
                at_rest = spline.positions[0], np.zeros_like(spline.positions[0])
                before = self._at(now_s) or at_rest
                self._late = (now_s, _fading(before, reference.sample(now_s), names, now_s))
            while self._parts and self._parts[-1][0] >= start_s:
                self._parts.pop()
            self._parts.append((start_s, reference))
            self._leave_s = float("inf")

    def leave(self, at_s: float) -> None:
        """From ``at_s`` on command nothing until the next plan."""
        with self._lock:
            self._leave_s = at_s

    def sample(self, now_s: float) -> tuple[Array, Array] | None:
        """Return position and velocity (D,) commanded at ``now_s``, None if nothing is.

        Before the first plan begins the arms stay where it starts.
        """
        with self._lock:
            return self._at(now_s)

    def _at(self, now_s: float) -> tuple[Array, Array] | None:
        if now_s >= self._leave_s:
            self._parts.clear()
        while len(self._parts) > 1 and self._parts[1][0] <= now_s:
            self._parts.popleft()
        if not self._parts:
            return None
        position, velocity = self._parts[0][1].sample(now_s)
        if self._late is None:
            return position, velocity
        since_s, fading = self._late
        if not since_s <= now_s < since_s + REJOIN_S:
            return position, velocity
        offset, drift = fading.sample(now_s)
        return position + offset, velocity + drift


def _fading(
    before: tuple[Array, Array], after: tuple[Array, Array], names: tuple[str, ...], now_s: float
) -> Reference:
    """Return the difference of two states as a cubic that ends at none."""
    offset, drift = before[0] - after[0], before[1] - after[1]
    none = np.zeros_like(offset)
    times = np.array([0.0, REJOIN_S])
    curve = Trajectory(names, times, np.array([offset, none]), np.array([drift, none]))
    made = Reference(offset)
    made.replace(curve, now_s, now_s)
    return made
