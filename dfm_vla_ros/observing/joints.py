"""One source of joint states: the newest, and where the joints were a moment ago."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.observing.sources import Array, Bounds, JointTrack, Moment, Source, ordered
from dfm_vla_ros.robot.joints import ARM_JOINTS, ARMS, JOINT_NAMES

WHOLE = "joint_states"
ARM_TOPICS = {f"{arm}_arm/joint_states": arm for arm in ARMS}
"""Where each arm's driver sends its own."""


class JointNamesError(DfmVlaError):
    """The names of an arm's joints are not seven different ones."""


@dataclass
class Header:
    """std_msgs/Header as far as it is needed.

    Attributes:
        stamp: builtin_interfaces/Time.
    """

    stamp: Any


@dataclass
class JointMessage:
    """A sensor_msgs/JointState of both arms, put together from two."""

    header: Header
    name: list[str] = field(default_factory=list)
    position: list[float] = field(default_factory=list)
    velocity: list[float] = field(default_factory=list)


class ArmNames:
    """How one arm's driver names its joints and measures its gripper."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Take ``arm_joint_names``, seven or none, and ``gripper_scale``.

        Raises:
            JointNamesError: the names are not seven different ones.
        """
        names = [name for name in values["arm_joint_names"] if name]
        if names and (len(names) != 7 or len(set(names)) != 7):
            raise JointNamesError(
                f"parameter arm_joint_names: {names} are {len(set(names))} different names; give "
                "7, joints 1 to 6 and the gripper, or none"
            )
        self.names = {arm: tuple(names) or ARM_JOINTS[arm] for arm in ARMS}
        self.gripper_scale = float(values["gripper_scale"])


class ArmJoiner:
    """Joins the messages of two arms.

    Each message of one arm goes out with the newest of the other and the older stamp of the two,
    so a silent arm makes both old.
    """

    def __init__(self, arms: ArmNames) -> None:
        """Know no message yet."""
        self._arms = arms
        self._newest: dict[str, Any] = {}

    def clear(self) -> None:
        """Forget both arms: the clock jumped or the robot was put elsewhere."""
        self._newest.clear()

    def join(self, arm: str, message: Any) -> JointMessage | None:
        """Return both arms' joints with ``message`` as the newest; None before the other's."""
        self._newest[arm] = message
        if len(self._newest) < len(ARMS):
            return None
        stamps = [state.header.stamp for state in self._newest.values()]
        joined = JointMessage(Header(min(stamps, key=lambda stamp: (stamp.sec, stamp.nanosec))))
        for side in ARMS:
            _translate(self._newest[side], self._arms, side, joined)
        return joined


def _translate(message: Any, arms: ArmNames, arm: str, into: JointMessage) -> None:
    """Append one arm's joints to ``into`` under our names; a missing joint is left out."""
    at = {name: index for index, name in enumerate(message.name)}
    for own, foreign in zip(ARM_JOINTS[arm], arms.names[arm], strict=True):
        index = at.get(foreign)
        if index is None or index >= len(message.position):
            continue
        scale = arms.gripper_scale if own == ARM_JOINTS[arm][-1] else 1.0
        into.name.append(own)
        into.position.append(message.position[index] / scale)
        moving = index < len(message.velocity)
        into.velocity.append(message.velocity[index] / scale if moving else 0.0)


class Joints:
    """Takes joint states, measured or commanded, in any order of names."""

    def __init__(self, name: str, bounds: Bounds) -> None:
        """Know no position yet."""
        self.source: Source[Array] = Source(name, bounds)
        self.track = JointTrack()

    def take(self, message: Any, stamp_s: float, now: Moment) -> bool:
        """Take a message made at ``stamp_s``; return whether it is usable."""
        positions = ordered(message.name, message.position, JOINT_NAMES)
        if positions is None:
            self.source.refuse(f"joints are missing or there twice; it holds {list(message.name)}")
            return False
        if not np.isfinite(positions).all():
            joint = int(np.argmin(np.isfinite(positions)))
            self.source.refuse(f"{JOINT_NAMES[joint]} is {positions[joint]}, not finite")
            return False
        self.source.put(positions, stamp_s, now)
        self.track.put(stamp_s, positions, _velocities(message))
        return True

    def clear(self) -> None:
        """Forget everything."""
        self.source.clear()
        self.track.clear()


def _velocities(message: Any) -> Array:
    """Return (D,) velocities [rad/s]; those that are missing or not finite are 0."""
    velocities = ordered(message.name, message.velocity, JOINT_NAMES)
    if velocities is None:
        return np.zeros(len(JOINT_NAMES))
    return np.where(np.isfinite(velocities), velocities, 0.0)
