"""What the executor asks of a collision model: how close a motion brings two bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.chunks import ChunkRefused, Verdict
from dfm_vla_ros.robot.spline import Spline

Array = NDArray[np.float64]

SAME_M = 1e-6
"""Distances that differ by less are the same."""


@dataclass(frozen=True)
class Breach:
    """Two bodies that come closer than allowed.

    Attributes:
        first, second: names of the bodies.
        distance_m: the smallest distance of any pair at row ``index``; negative: they overlap [m].
        allowed_m: the distance to keep [m].
        index: row of the positions that were checked.
    """

    first: str
    second: str
    distance_m: float
    allowed_m: float
    index: int


class Clearance(Protocol):
    """Knows the bodies of the robot and of what stands around it."""

    def check(self, positions: Array) -> Breach | None:
        """Return the closest approach among ``positions`` (M, D), None if all are allowed.

        Args:
            positions: M postures [rad], grippers [m], in the order of the joint limits.

        Returns:
            The breach of the smallest distance over all rows; of equal ones the first.
        """

    def breaches(self, positions: Array) -> list[Breach]:
        """Return the closest approach of each pair that comes too close, as :meth:`check`."""


def check_clearance(motion: Spline, clearance: Clearance, parts: int = 4) -> None:
    """Refuse a motion that brings two bodies too close, at its waypoints or between.

    A pair that is too close at the start may stay so as long as it comes no closer: else the arms
    could never leave.

    Args:
        motion: from its start on.
        clearance: what is around.
        parts: samples a segment.

    Raises:
        ChunkRefused: names both bodies, distance, bound and time.
    """
    times, positions = motion.sampled(parts)
    if clearance.check(positions) is None:
        return
    at_start = {(b.first, b.second): b.distance_m for b in clearance.breaches(positions[:1])}
    closer = [
        found
        for found in clearance.breaches(positions)
        if found.distance_m < at_start.get((found.first, found.second), np.inf) - SAME_M
    ]
    if not closer:
        return
    breach = min(closer, key=lambda found: found.distance_m)
    raise ChunkRefused(
        Verdict.COLLISION,
        f"{breach.first} and {breach.second} would come within {breach.distance_m:.4f} m, allowed "
        f"is {breach.allowed_m} m, {times[breach.index]:.2f} s after the start: lead the arms "
        "another way",
    )
