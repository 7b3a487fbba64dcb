"""Cartesian waypoints of one arm, turned into joint targets at the control period."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.sim.ik import ArmKinematics, grasp_rotation

Array = NDArray[np.float64]

CONTROL_PERIOD_S = 0.1


def up(height_m: float) -> Array:
    """Return the vector (3,) [m] that points up by ``height_m``."""
    return np.array([0.0, 0.0, height_m])


@dataclass(frozen=True)
class Waypoint:
    """Where one gripper is at the end of a segment.

    Attributes:
        duration_s: of the segment that ends here.
        position: of the tcp (3,) [m].
        yaw: of the gripper about z [rad]; 0 opens along y.
        tilt: of the approach from straight down [rad].
        gripper: travel of one finger [m].
    """

    duration_s: float
    position: Array
    yaw: float
    tilt: float
    gripper: float


def follow(
    kinematics: ArmKinematics, waypoints: Sequence[Waypoint], joints: Array, pace: float = 1.0
) -> Array:
    """Return targets (T, 7), one per control period, along the waypoints from ``joints`` (6,).

    The first waypoint is where the arm stands (its duration is not used); row 0 is one period
    after it. Each segment is a smooth step s = 3 u^2 - 2 u^3 in position, yaw, tilt and gripper;
    it takes ``pace`` times its duration.

    Raises:
        OutOfReach: if a point on the way is not reached within 2 mm.
    """
    rows = []
    for start, end in itertools.pairwise(waypoints):
        steps = round(pace * end.duration_s / CONTROL_PERIOD_S)
        for u in np.arange(1, steps + 1) / steps:
            point = _between(start, end, u * u * (3 - 2 * u))
            joints = kinematics.solve(
                point.position, grasp_rotation(point.yaw, point.tilt), joints
            )
            rows.append(np.append(joints, point.gripper))
    return np.array(rows)


def _between(start: Waypoint, end: Waypoint, s: float) -> Waypoint:
    """Blend two waypoints, s = 0 (start) to 1 (end)."""
    mix = {
        name: (1 - s) * getattr(start, name) + s * getattr(end, name)
        for name in ("position", "yaw", "tilt", "gripper")
    }
    return Waypoint(duration_s=0.0, **mix)
