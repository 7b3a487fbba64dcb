"""Bounds that every motion keeps: of the joints, and of how chunks become trajectories."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError

Array = NDArray[np.float64]

ROUNDING = 1e-9
"""What a bound may be passed by without being violated [rad, m, relative]."""


class PlanRefused(DfmVlaError):
    """The targets cannot be followed safely; the message names joint, value and bound."""


class PlanTooLate(PlanRefused):
    """Every step is already past."""


@dataclass(frozen=True)
class PlanSettings:
    """How targets become trajectories.

    Attributes:
        lead_s: from the stamp of the trajectories to the first new point. A controller that gets
            them within this time follows the old trajectory into the new one without a step.
        minimum_gap_s: a step due sooner after the joining than this is dropped.
        margin_rad: kept from both position limits by revolute joints.
        tolerance_rad: how far outside a target is moved to the limit; one further out refuses the
            chunk.
        tolerance_m: the same for a gripper.
        jump_rad: largest distance of a revolute joint to its first target.
        largest_time_scale: a chunk that needs more to keep the limits is refused.
        slowest_speed: smallest share of the asked speed at which a chunk is stretched to bridge
            inference.
        maximum_chunk_age_s: a chunk whose observation is older is refused.
    """

    lead_s: float = 0.02
    minimum_gap_s: float = 0.05
    margin_rad: float = 0.005
    tolerance_rad: float = 0.2
    tolerance_m: float = 0.01
    jump_rad: float = 0.6
    largest_time_scale: float = 10.0
    slowest_speed: float = 0.25
    maximum_chunk_age_s: float = 2.0


DEFAULT_SETTINGS = PlanSettings()


@dataclass(frozen=True)
class JointLimits:
    """Bounds of D joints.

    ``lower <= q <= upper``, ``|dq/dt| <= velocity``, ``|d2q/dt2| <= acceleration``,
    ``|d3q/dt3| <= jerk`` (within each cubic; acceleration may step where two meet).

    Attributes:
        names: the D joints.
        lower: (D,) smallest positions [rad], grippers [m].
        upper: (D,) largest positions.
        velocity: (D,) [rad/s], grippers [m/s].
        acceleration: (D,) [rad/s^2], grippers [m/s^2].
        jerk: (D,) [rad/s^3], grippers [m/s^3].
        prismatic: (D,) bool, True for a joint measured in metres.
    """

    names: tuple[str, ...]
    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    jerk: Array
    prismatic: NDArray[np.bool_]

    def shrunk(self, margin_rad: float) -> JointLimits:
        """Return the limits with ``margin_rad`` off both ends of the revolute joints.

        A gripper keeps its travel: closing on nothing is a command to its lower limit.
        """
        margin = np.where(self.prismatic, 0.0, margin_rad)
        return replace(self, lower=self.lower + margin, upper=self.upper - margin)

    def units(self, joint: int) -> str:
        """Return the unit of joint number ``joint``'s position."""
        return "m" if self.prismatic[joint] else "rad"
