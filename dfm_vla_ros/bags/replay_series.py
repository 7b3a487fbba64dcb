"""Joint positions and message rates of a recording over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.observing.sources import ordered
from dfm_vla_ros.observing.stamps import nanoseconds
from dfm_vla_ros.robot.joints import JOINT_NAMES

Array = NDArray[np.float64]

PERIOD_NS = 20_000_000
"""Joint states that come faster are thinned to this."""
GAP_FACTOR = 3.0
"""Silence of so many usual periods is a gap."""
LEAST_GAP_S = 0.25


class JointSeries:
    """Joint states in the order of ``robot.joints``, thinned."""

    def __init__(self) -> None:
        """Hold none."""
        self._stamps: list[int] = []
        self._rows: list[Array] = []
        self.unusable = 0
        """Messages that lack a joint or hold what is not finite."""

    def take(self, message: Any) -> None:
        """Add a JointState."""
        stamp_ns = nanoseconds(message.header.stamp)
        if self._stamps and 0 <= stamp_ns - self._stamps[-1] < PERIOD_NS:
            return
        row = ordered(list(message.name), message.position, JOINT_NAMES)
        if row is None or not np.isfinite(row).all():
            self.unusable += 1
            return
        self._stamps.append(stamp_ns)
        self._rows.append(row)

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._rows)

    def at(self, stamps_ns: NDArray[np.int64], within_ns: int = 200_000_000) -> Array:
        """Return (T, D) at the stamps, linear between messages.

        NaN where the nearest message is further than ``within_ns``.
        """
        found = np.full((len(stamps_ns), len(JOINT_NAMES)), np.nan)
        if not self._rows:
            return found
        order = np.argsort(self._stamps, kind="stable")
        known = np.array(self._stamps)[order]
        rows = np.array(self._rows)[order]
        origin = known[0]
        before = np.clip(np.searchsorted(known, stamps_ns, side="right") - 1, 0, len(known) - 1)
        after = np.minimum(before + 1, len(known) - 1)
        nearest = np.minimum(abs(stamps_ns - known[before]), abs(known[after] - stamps_ns))
        times = (stamps_ns - origin) * 1e-9
        inside = nearest <= within_ns
        for joint in range(rows.shape[1]):
            found[inside, joint] = np.interp(times, (known - origin) * 1e-9, rows[:, joint])[
                inside
            ]
        return found

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """First and last stamp, None without messages."""
        return (min(self._stamps), max(self._stamps)) if self._stamps else None


@dataclass
class Rate:
    """How the messages of one topic came."""

    messages: int
    rate_hz: float
    longest_gap_s: float
    gaps: list[tuple[int, int]]
    backward: int


class Rates:
    """Stamps of every topic."""

    def __init__(self) -> None:
        """Know no topic."""
        self._stamps: dict[str, list[int]] = {}

    def take(self, topic: str, stamp_ns: int) -> None:
        """Note a message."""
        self._stamps.setdefault(topic, []).append(stamp_ns)

    @property
    def span_ns(self) -> tuple[int, int]:
        """First and last stamp of all; (0, 0) without messages."""
        every = [stamp for stamps in self._stamps.values() for stamp in stamps]
        return (min(every), max(every)) if every else (0, 0)

    def topics(self) -> dict[str, Rate]:
        """Return topic -> its rate, by name."""
        return {topic: _rate(np.array(stamps)) for topic, stamps in sorted(self._stamps.items())}


def _rate(stamps: NDArray[np.int64]) -> Rate:
    """Return rate and gaps; the usual period is the median."""
    steps = np.diff(stamps)
    forward = steps[steps > 0]
    if not len(forward):
        return Rate(len(stamps), 0.0, 0.0, [], int((steps < 0).sum()))
    period_s = float(np.median(forward)) * 1e-9
    limit_ns = max(GAP_FACTOR * period_s, LEAST_GAP_S) * 1e9
    gaps = [(int(stamps[i]), int(stamps[i + 1])) for i in np.flatnonzero(steps > limit_ns)]
    longest_s = float(forward.max()) * 1e-9
    return Rate(len(stamps), 1 / period_s, longest_s, gaps, int((steps < 0).sum()))
