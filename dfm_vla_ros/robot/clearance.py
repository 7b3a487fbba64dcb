"""What the executor asks of a collision model: how close a motion brings two bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


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
