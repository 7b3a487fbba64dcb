"""What the commanded motion of an episode was like: steps at seams, pauses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
State = tuple[Array, Array]
"""Commanded position (D,) and velocity (D,)."""

REST_RAD_S = 1e-3
"""A joint slower than this rests; a gripper's m/s are counted alike."""
SHORTEST_PAUSE_S = 0.02
EITHER_SIDE_S = 1e-7
"""How far from a seam its two sides are sampled."""
BEND_S = 1e-4
"""Time over which the acceleration on either side is taken."""


@dataclass(frozen=True)
class MotionRecord:
    """Figures of one episode's commanded motion; D joints, the largest of them counts.

    Attributes:
        position_step_rad: largest distance between two commands beyond the larger of their
            velocities times the time between them [rad, gripper m].
        seam_position_step_rad: largest jump of the commanded position where chunks join.
        seam_velocity_step_rad_s: largest jump of the commanded velocity there [rad/s, m/s].
        seam_acceleration_step_rad_s2: median over seams of the jump of the acceleration there,
            which may jump [rad/s^2, m/s^2].
        seams: chunks that were joined to another.
        pauses: times at which every joint rested for more than 20 ms while a chunk was expected.
        pause_s, longest_pause_s: their sum, and the longest [s].
        starved_s, longest_starved_s: time without motion of any chunk, from the first chunk on.
        moving_s: from the first chunk to the end of the episode [s].
        speed_scale: mean over chunks of 1 / time scale.
    """

    position_step_rad: float = 0.0
    seam_position_step_rad: float = 0.0
    seam_velocity_step_rad_s: float = 0.0
    seam_acceleration_step_rad_s2: float = 0.0
    seams: int = 0
    pauses: int = 0
    pause_s: float = 0.0
    longest_pause_s: float = 0.0
    starved_s: float = 0.0
    longest_starved_s: float = 0.0
    moving_s: float = 0.0
    speed_scale: float = 1.0


class _Spells:
    """Stretches of time during which something held."""

    def __init__(self, shortest_s: float) -> None:
        self._shortest_s = shortest_s
        self._since_s: float | None = None
        self.lengths_s: list[float] = []

    def add(self, now_s: float, holds: bool) -> None:
        """At ``now_s`` it holds or does not."""
        if holds and self._since_s is None:
            self._since_s = now_s
        elif not holds and self._since_s is not None:
            if now_s - self._since_s > self._shortest_s + 1e-9:
                self.lengths_s.append(now_s - self._since_s)
            self._since_s = None


class Motion:
    """Records the commanded motion: give it every command and every joining, in order."""

    def __init__(self) -> None:
        """Begin before the first command."""
        self._last: tuple[float, State] | None = None
        self._began_s: float | None = None
        self._rest, self._starved = _Spells(SHORTEST_PAUSE_S), _Spells(0.0)
        self._beyond, self._scales = 0.0, list[float]()
        self._jumps = [(0.0, 0.0)]
        self._bends = list[float]()

    def command(self, now_s: float, state: State, executing: bool) -> None:
        """Take in what is commanded at ``now_s``, and whether a chunk's motion is running."""
        if self._last is not None:
            then_s, (position, velocity) = self._last
            fastest = np.maximum(np.abs(velocity), np.abs(state[1]))
            beyond = np.abs(state[0] - position) - fastest * (now_s - then_s)
            self._beyond = max(self._beyond, float(beyond.max()))
        self._last = now_s, state
        if self._began_s is not None and now_s >= self._began_s:
            self._rest.add(now_s, bool((np.abs(state[1]) < REST_RAD_S).all()))
            self._starved.add(now_s, not executing)

    def joined(
        self,
        before: State,
        sample: Callable[[float], State],
        now_s: float,
        start_s: float,
        time_scale: float,
    ) -> None:
        """Take in a chunk that was accepted at ``now_s`` and moves the arms from ``start_s`` on.

        Args:
            before: commanded at ``now_s`` until then.
            sample: what is commanded at a time, with the chunk.
            now_s: the first moment where the old command could be left with a step [s].
            start_s: the second.
            time_scale: how much slower than asked the chunk runs.
        """
        self._scales.append(time_scale)
        self._jumps.append(_jump(before, sample(now_s), 0.0))
        early, late = start_s - EITHER_SIDE_S, start_s + EITHER_SIDE_S
        self._jumps.append(_jump(sample(early), sample(late), late - early))
        if self._began_s is None:
            self._began_s = start_s + SHORTEST_PAUSE_S  # it starts at rest
        else:
            slow, middle, fast = (sample(start_s + k * BEND_S)[1] for k in (-1, 0, 1))
            self._bends.append(float(np.abs(fast - 2 * middle + slow).max()) / BEND_S)

    def record(self, now_s: float) -> MotionRecord:
        """Return the figures of an episode that ended at ``now_s``."""
        self._rest.add(now_s, False)
        self._starved.add(now_s, False)
        rest, starved = self._rest.lengths_s, self._starved.lengths_s
        position, velocity = np.max(self._jumps, axis=0)
        return MotionRecord(
            position_step_rad=self._beyond,
            seam_position_step_rad=float(position),
            seam_velocity_step_rad_s=float(velocity),
            seam_acceleration_step_rad_s2=float(np.median(self._bends or [0.0])),
            seams=len(self._bends),
            pauses=len(rest),
            pause_s=sum(rest),
            longest_pause_s=max(rest, default=0.0),
            starved_s=sum(starved),
            longest_starved_s=max(starved, default=0.0),
            moving_s=0.0 if self._began_s is None else max(0.0, now_s - self._began_s),
            speed_scale=float(np.mean([1 / scale for scale in self._scales] or [1.0])),
        )


def _jump(before: State, after: State, apart_s: float) -> tuple[float, float]:
    """Return the steps of position, beyond what the velocities cover, and of velocity."""
    covered = apart_s * (before[1] + after[1]) / 2
    position = np.abs(after[0] - before[0] - covered).max()
    return float(position), float(np.abs(after[1] - before[1]).max())
