"""The executor's own time: follows the ROS clock, but never jumps with it."""

from __future__ import annotations

import threading
import time

from builtin_interfaces.msg import Time
from rclpy.node import Node

from dfm_vla_ros.nodes.clock_watch import TOLERANCE_S
from dfm_vla_ros.nodes.stamps import NANOSECONDS, from_nanoseconds, nanoseconds

FASTEST = 25
"""Simulated seconds per real one that still are no jump."""
SLACK_NS = NANOSECONDS // 2


class Timeline:
    """Seconds that only grow; where the ROS clock jumps they go on at the pace of real time.

    So a motion under way is sampled without a step whatever the clock does, and whoever uses the
    time learns of the jump afterwards. Stamps are converted with the offset of now: one from
    before a backward jump lies in the future. May be used from several threads.
    """

    def __init__(self, node: Node) -> None:
        """Begin when the clock does: simulated time is 0 until then."""
        self._clock = node.get_clock()
        self._lock = threading.Lock()
        self._origin_ns = self._ros_ns = self._steady_ns = 0
        self._latest_s = 0.0
        self._jump_s = 0.0

    def now_s(self) -> float:
        """Return the time of now [s]."""
        with self._lock:
            self._look()
            return self._latest_s

    def seconds(self, stamp: Time) -> float:
        """Return when ``stamp`` was, on this timeline [s]."""
        return (nanoseconds(stamp) - self._origin_ns) / NANOSECONDS

    def stamp(self, seconds: float) -> Time:
        """Return the ROS time of ``seconds`` on this timeline."""
        return from_nanoseconds(max(0, self._origin_ns + round(seconds * NANOSECONDS)))

    def take_jump_s(self) -> float:
        """Return by how much the clock jumped since the last call [s]; negative: backward."""
        with self._lock:
            self._look()
            jump_s, self._jump_s = self._jump_s, 0.0
            return jump_s

    def _look(self) -> None:
        """Read both clocks; move the origin with a jump."""
        ros_ns, steady_ns = self._clock.now().nanoseconds, time.monotonic_ns()
        if ros_ns == 0:
            return
        if self._ros_ns == 0:
            self._origin_ns = ros_ns
        else:
            moved_ns, passed_ns = ros_ns - self._ros_ns, steady_ns - self._steady_ns
            back = moved_ns < -TOLERANCE_S * NANOSECONDS
            if back or moved_ns > FASTEST * passed_ns + SLACK_NS:
                jump_ns = moved_ns - passed_ns
                self._origin_ns += jump_ns
                self._jump_s += jump_ns / NANOSECONDS
        self._ros_ns, self._steady_ns = ros_ns, steady_ns
        self._latest_s = max(self._latest_s, (ros_ns - self._origin_ns) / NANOSECONDS)
