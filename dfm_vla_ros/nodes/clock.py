"""Time in the nodes: stamps, clocks that jump, and steady ticks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from builtin_interfaces.msg import Time
from rclpy.node import Node

from dfm_vla_ros.observing.sources import NANOSECONDS, TimeBase, nanoseconds


class StampBase(TimeBase):
    """Converts both ways between ROS stamps and seconds since the first stamp it saw."""

    def stamp(self, seconds: float) -> Time:
        """Return the stamp of ``seconds`` since the origin."""
        return from_nanoseconds(self.to_nanoseconds(seconds))


def from_nanoseconds(ns: int) -> Time:
    """Return nanoseconds as a stamp."""
    sec, nanosec = divmod(ns, NANOSECONDS)
    return Time(sec=sec, nanosec=nanosec)


TOLERANCE_S = 0.05
"""A clock that is disciplined while it runs may step back by less."""


class ClockWatch:
    """Compares the node's clock at each look; a bag that is played again jumps back."""

    def __init__(self, node: Node) -> None:
        self._clock = node.get_clock()
        self._last_ns = self._clock.now().nanoseconds

    def jumped_back_s(self) -> float:
        """Return by how much the clock went back since the last call [s]; 0 if it did not."""
        before_ns, self._last_ns = self._last_ns, self._clock.now().nanoseconds
        back_s = (before_ns - self._last_ns) * 1e-9
        return back_s if back_s > TOLERANCE_S else 0.0


LARGEST_LAG_S = 0.1
"""Ticks that are later than this are given up, not sent all at once."""


class Ticker:
    """Calls back at a steady rate from a thread of its own, so that planning delays nothing.

    Deadlines are absolute: a late tick does not delay those after it, and ticks missed within
    ``LARGEST_LAG_S`` are made up for.
    """

    def __init__(self, rate_hz: float, tick: Callable[[], None]) -> None:
        """Prepare to call ``tick``; it must not raise."""
        self._period_s, self._tick = 1.0 / rate_hz, tick
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self.slipped = 0
        """Ticks given up so far."""

    def start(self) -> None:
        """Begin to tick."""
        self._thread.start()

    def stop(self) -> None:
        """End; no tick runs once this returns."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._ended.is_set():
            self._tick()
            due_s += self._period_s
            ahead_s = due_s - time.monotonic()
            if ahead_s > 0:
                time.sleep(ahead_s)
            elif ahead_s < -LARGEST_LAG_S:
                lost = int(-ahead_s / self._period_s)
                self.slipped += lost
                due_s += lost * self._period_s


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


class Pace:
    """Says how many ticks are due; slips when late instead of running after lost time."""

    def __init__(self, interval_s: float, first_s: float, largest_lag_s: float = 0.1) -> None:
        """Let a tick be due every ``interval_s``, the first at ``first_s`` of a steady clock [s].

        A tick may run half an interval early, so that a timer of the same interval never finds
        none and then two. More than ``largest_lag_s`` behind, the lost time is given up.
        """
        self._interval_s = interval_s
        self._largest_lag_s = largest_lag_s
        self._next_s = first_s
        self.slipped_s = 0.0
        """Real time lost so far [s]."""

    def due(self, now_s: float) -> int:
        """Return the number of ticks to run now."""
        lag_s = now_s - self._next_s
        if lag_s > self._largest_lag_s:
            self.slipped_s += lag_s
            self._next_s = now_s
        count = 0
        while self._next_s <= now_s + self._interval_s / 2:
            self._next_s += self._interval_s
            count += 1
        return count
