"""What is being commanded: plans that take over from one another where they begin."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.plan import Plan
from dfm_vla_ros.robot.reference import Reference, Trajectory

Array = NDArray[np.float64]


class Motion:
    """Samples the newest plan that has begun; written by one thread, read by another.

    A plan starts from the state that the one before commands then, so taking over exactly there
    leaves position and velocity without a step.
    """

    def __init__(self) -> None:
        """Command nothing yet."""
        self._lock = threading.Lock()
        self._parts: deque[tuple[float, Reference]] = deque()
        self._leave_s = float("inf")

    def follow(self, plan: Plan) -> None:
        """Take over where ``plan`` joins what was commanded before."""
        start_s, spline = plan.start_s, plan.spline
        reference = Reference(spline.positions[0])
        names = plan.joined.joint_names
        curve = Trajectory(names, spline.times_s, spline.positions, spline.velocities)
        reference.replace(curve, start_s, start_s)
        with self._lock:
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
            if now_s >= self._leave_s:
                self._parts.clear()
            while len(self._parts) > 1 and self._parts[1][0] <= now_s:
                self._parts.popleft()
            if not self._parts:
                return None
            return self._parts[0][1].sample(now_s)
