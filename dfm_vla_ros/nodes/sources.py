"""The newest message of each source with its age; what to wait for; no ROS."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Value = TypeVar("Value")

LARGEST_EXTRAPOLATION_S = 0.05


@dataclass(frozen=True)
class Moment:
    """Now on two clocks.

    Attributes:
        ros_s: ROS time [s], which a simulation may stop.
        steady_s: the machine's steady clock [s], which nothing stops.
    """

    ros_s: float
    steady_s: float


class Source(Generic[Value]):
    """One topic: its newest value, when that was made and when it came."""

    def __init__(self, name: str, maximum_age_s: float) -> None:
        """Know nothing of topic ``name`` yet."""
        self.name = name
        self.value: Value | None = None
        self.stamp_s = -np.inf
        self.fault = ""
        """Why the newest message was not taken; empty if it was."""
        self._came_s = -np.inf
        self._maximum_age_s = maximum_age_s

    def put(self, value: Value, stamp_s: float, now: Moment) -> None:
        """Take in a message made at ``stamp_s`` of ROS time."""
        self.value, self.stamp_s, self._came_s, self.fault = value, stamp_s, now.steady_s, ""

    def clear(self) -> None:
        """Forget the value: it is of another episode."""
        self.value, self.stamp_s, self._came_s = None, -np.inf, -np.inf

    def age_s(self, now: Moment) -> float:
        """Return the larger age by stamp and by arrival [s]; infinite before the first message."""
        return max(now.ros_s - self.stamp_s, now.steady_s - self._came_s)

    def complaint(self, now: Moment) -> str:
        """Return what is wrong with this source, or an empty text."""
        if self.fault:
            return f"{self.name}: {self.fault}"
        if self.value is None:
            return f"{self.name}: no message yet"
        age_s = self.age_s(now)
        if age_s > self._maximum_age_s:
            return f"{self.name} is {age_s:.2f} s old, allowed is {self._maximum_age_s} s"
        return ""


class JointTrack:
    """The last joint messages, to know the joints at the moment an image was taken."""

    def __init__(self, length: int = 50) -> None:
        """Keep ``length`` messages."""
        self._samples: deque[tuple[float, Array, Array]] = deque(maxlen=length)

    def put(self, stamp_s: float, positions: Array, velocities: Array) -> None:
        """Add a message; one that is older than the newest means that time jumped back."""
        if self._samples and stamp_s < self._samples[-1][0]:
            self._samples.clear()
        self._samples.append((stamp_s, positions, velocities))

    def clear(self) -> None:
        """Forget everything."""
        self._samples.clear()

    def at(self, stamp_s: float) -> Array:
        """Return the positions (D,) at ``stamp_s`` [s].

        Between two messages the line between them, after the newest its velocity carried on (for
        the few milliseconds that a message takes), before the oldest the oldest.
        """
        after: tuple[float, Array] | None = None
        for sample_s, positions, velocities in reversed(self._samples):
            if sample_s > stamp_s:
                after = (sample_s, positions)
                continue
            if after is None:
                ahead_s = min(stamp_s - sample_s, LARGEST_EXTRAPOLATION_S)
                return positions + velocities * ahead_s
            share = (stamp_s - sample_s) / (after[0] - sample_s)
            return positions + share * (after[1] - positions)
        assert after is not None, "ask only after the first message"
        return after[1]


def ordered(names: list[str], values: Array, wanted: tuple[str, ...]) -> Array | None:
    """Return ``values`` in the order of ``wanted``, found by name; None if one is missing."""
    if len(names) != len(values):
        return None
    if tuple(names) == wanted:
        return np.array(values, dtype=np.float64)
    at = {name: index for index, name in enumerate(names)}
    if any(name not in at for name in wanted):
        return None
    return np.array([values[at[name]] for name in wanted], dtype=np.float64)
