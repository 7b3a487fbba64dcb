"""One source of joint states: the newest, and where the joints were a moment ago."""

from __future__ import annotations

from typing import Any

import numpy as np

from dfm_vla_ros.observing.sources import Array, Bounds, JointTrack, Moment, Source, ordered
from dfm_vla_ros.robot.joints import JOINT_NAMES


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
