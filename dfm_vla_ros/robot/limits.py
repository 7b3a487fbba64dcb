"""Joint limits: position and velocity from the URDF, acceleration and jerk from parameters."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.robot.joints import JOINT_NAMES

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


Array = NDArray[np.float64]

ARM_ACCELERATION = 60.0
"""[rad/s^2] default bound; a URDF names none."""
GRIPPER_ACCELERATION = 60.0
"""[m/s^2]: a finger may cross its whole travel within one control period."""
ARM_JERK = 1500.0
"""[rad/s^3]: three times what the demonstrations' chunks need; full speed stops in 0.13 s."""
GRIPPER_JERK = 1000.0
"""[m/s^3]: a finger may cross its whole travel within one control period."""


class UrdfError(DfmVlaError):
    """The URDF lacks a joint or one of its limits."""


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

    @classmethod
    def from_urdf(
        cls,
        text: str,
        names: Sequence[str] = JOINT_NAMES,
        arm_acceleration: float = ARM_ACCELERATION,
        gripper_acceleration: float = GRIPPER_ACCELERATION,
        arm_jerk: float = ARM_JERK,
        gripper_jerk: float = GRIPPER_JERK,
    ) -> JointLimits:
        """Read the limits of ``names`` from ``text``, a URDF with its xacro expanded.

        Raises:
            UrdfError: it is no XML, or a joint, its limit or an attribute is missing.
        """
        joints = _joints(text)
        missing = [name for name in names if name not in joints]
        if missing:
            raise UrdfError(f"the URDF has no joint {missing[0]!r}; it has {sorted(joints)}")
        rows = np.array([_limit(joints[name]) for name in names])
        prismatic = np.array([joints[name].get("type") == "prismatic" for name in names])
        acceleration = np.where(prismatic, gripper_acceleration, arm_acceleration)
        jerk = np.where(prismatic, gripper_jerk, arm_jerk)
        lower, upper, velocity = rows.T
        return cls(tuple(names), lower, upper, velocity, acceleration, jerk, prismatic)

    def shrunk(self, margin_rad: float) -> JointLimits:
        """Return the limits with ``margin_rad`` off both ends of the revolute joints.

        A gripper keeps its travel: closing on nothing is a command to its lower limit.
        """
        margin = np.where(self.prismatic, 0.0, margin_rad)
        return replace(self, lower=self.lower + margin, upper=self.upper - margin)

    def units(self, joint: int) -> str:
        """Return the unit of joint number ``joint``'s position."""
        return "m" if self.prismatic[joint] else "rad"


def _joints(text: str) -> dict[str, ElementTree.Element]:
    """Return the robot's joints by name, not those that <ros2_control> repeats."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UrdfError(f"the robot description is no XML ({error}); expand the xacro") from error
    return {joint.get("name", ""): joint for joint in root.findall("joint")}


def _limit(joint: ElementTree.Element) -> tuple[float, float, float]:
    """Return lower, upper and velocity of one <joint>."""
    limit = joint.find("limit")
    if limit is None:
        raise UrdfError(f"joint {joint.get('name')!r} has no <limit> in the URDF")
    try:
        lower, upper, velocity = (float(limit.attrib[k]) for k in ("lower", "upper", "velocity"))
    except (KeyError, ValueError) as error:
        raise UrdfError(f"joint {joint.get('name')!r}: unusable <limit> ({error!r})") from error
    if not (lower <= upper and velocity > 0):
        raise UrdfError(
            f"joint {joint.get('name')!r}: limit {lower} .. {upper}, velocity {velocity}; "
            "lower must not exceed upper and velocity must be positive"
        )
    return lower, upper, velocity
