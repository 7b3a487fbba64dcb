"""Notices a camera that repeats one picture although the arms move; no ROS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.observing.sources import Array, Moment


class FrozenWatch:
    """Compares each picture of one camera with the one before.

    A still robot in front of a still scene repeats its picture too (in a simulation exactly so),
    so a picture counts as frozen only if joints that must change it have moved since it did.
    """

    def __init__(self, timeout_s: float, motion_rad: float, joints: NDArray[np.bool_]) -> None:
        """Complain of a picture older than ``timeout_s`` (0: never) after ``motion_rad``.

        Args:
            timeout_s: how long the same picture may repeat [s].
            motion_rad: what the joints may move meanwhile [rad].
            joints: (D,) True for the joints that must change the picture.
        """
        self._timeout_s, self._motion_rad, self._joints = timeout_s, motion_rad, joints
        self.clear()

    def clear(self) -> None:
        """Forget the picture."""
        self._picture: NDArray[np.uint8] | None = None
        self._since: Moment | None = None
        self._from: Array | None = None
        self._moved_rad = 0.0
        self._repeated = False

    def look(self, picture: NDArray[np.uint8], now: Moment) -> None:
        """Take a picture (H, W, 3) that came ``now``."""
        if self._timeout_s <= 0:
            return
        if self._picture is not None and np.array_equal(self._picture, picture):
            self._repeated = True
            return
        self._picture, self._since, self._repeated = picture, now, False
        self._from, self._moved_rad = None, 0.0

    def move(self, positions: Array) -> None:
        """Take the joints' positions (D,) [rad]."""
        moving = positions[self._joints]
        if self._from is None:
            self._from = moving
        distance_rad = float(np.abs(moving - self._from).max())
        self._moved_rad = max(self._moved_rad, distance_rad)

    def complaint(self, now: Moment) -> str:
        """Return what is wrong, or an empty text."""
        if not self._repeated or self._since is None or self._moved_rad <= self._motion_rad:
            return ""
        # A simulation that paused, or a clock that ran ahead, freezes nothing.
        age_s = min(now.ros_s - self._since.ros_s, now.steady_s - self._since.steady_s)
        if age_s <= self._timeout_s:
            return ""
        return (
            f"frozen: the same picture for {age_s:.2f} s while joints moved "
            f"{self._moved_rad:.2f} rad, allowed are {self._timeout_s} s and "
            f"{self._motion_rad} rad"
        )
