"""Stamps and seconds.

Seconds since 1970 in a double are exact to 0.24 us only, which at 5 rad/s is a microradian. So the
library counts seconds from an origin near now.
"""

from __future__ import annotations

from typing import Any

NANOSECONDS = 1_000_000_000


class TimeBase:
    """Converts between stamps and seconds since the first stamp it saw."""

    def __init__(self) -> None:
        """Take the first stamp to come as the origin."""
        self._origin_ns: int | None = None

    def seconds(self, stamp: Any) -> float:
        """Return ``stamp``, a builtin_interfaces/Time, as seconds since the origin."""
        return self.from_nanoseconds(nanoseconds(stamp))

    def from_nanoseconds(self, ns: int) -> float:
        """Return a clock reading [ns] as seconds since the origin."""
        if self._origin_ns is None and ns > 0:  # 0: simulated time has not begun
            self._origin_ns = ns
        return (ns - (self._origin_ns or 0)) / NANOSECONDS

    def to_nanoseconds(self, seconds: float) -> int:
        """Return the clock reading [ns] of ``seconds`` since the origin."""
        return (self._origin_ns or 0) + round(seconds * NANOSECONDS)


def nanoseconds(stamp: Any) -> int:
    """Return a stamp as nanoseconds."""
    return stamp.sec * NANOSECONDS + stamp.nanosec
