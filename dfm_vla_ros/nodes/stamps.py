"""Seconds and nanoseconds as ROS stamps."""

from __future__ import annotations

from builtin_interfaces.msg import Time

from dfm_vla_ros.observing import stamps
from dfm_vla_ros.observing.stamps import NANOSECONDS, nanoseconds

__all__ = ["NANOSECONDS", "TimeBase", "from_nanoseconds", "nanoseconds"]


class TimeBase(stamps.TimeBase):
    """Makes stamps too."""

    def stamp(self, seconds: float) -> Time:
        """Return the stamp of ``seconds`` since the origin."""
        return from_nanoseconds(self.to_nanoseconds(seconds))


def from_nanoseconds(ns: int) -> Time:
    """Return nanoseconds as a stamp."""
    sec, nanosec = divmod(ns, NANOSECONDS)
    return Time(sec=sec, nanosec=nanosec)
