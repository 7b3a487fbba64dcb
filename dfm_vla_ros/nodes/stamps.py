"""ROS stamps and seconds.

Seconds since 1970 in a double are exact to 0.24 us only, which at 5 rad/s is a microradian. So the
library counts seconds from an origin near now.
"""

from __future__ import annotations

from builtin_interfaces.msg import Time

NANOSECONDS = 1_000_000_000


class TimeBase:
    """Converts between stamps and seconds since the first stamp it saw."""

    def __init__(self) -> None:
        """Take the first stamp to come as the origin."""
        self._origin_ns: int | None = None

    def seconds(self, stamp: Time) -> float:
        """Return ``stamp`` as seconds since the origin."""
        return self.from_nanoseconds(nanoseconds(stamp))

    def from_nanoseconds(self, ns: int) -> float:
        """Return a clock reading [ns] as seconds since the origin."""
        if self._origin_ns is None and ns > 0:  # 0: simulated time has not begun
            self._origin_ns = ns
        return (ns - (self._origin_ns or 0)) / NANOSECONDS

    def stamp(self, seconds: float) -> Time:
        """Return the stamp of ``seconds`` since the origin."""
        return from_nanoseconds((self._origin_ns or 0) + round(seconds * NANOSECONDS))


def nanoseconds(stamp: Time) -> int:
    """Return a stamp as nanoseconds."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def from_nanoseconds(ns: int) -> Time:
    """Return nanoseconds as a stamp."""
    sec, nanosec = divmod(ns, NANOSECONDS)
    return Time(sec=sec, nanosec=nanosec)
