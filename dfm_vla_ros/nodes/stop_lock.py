"""The latched stop: a service and a heartbeat close it, only a request opens it again."""

from __future__ import annotations


class StopLock:
    """Says whether the arms are stopped and why; knows nothing of ROS.

    Times are of a steady clock [s]. The heartbeat stops on ``False`` and on silence; while it does
    either, the lock cannot be opened.
    """

    def __init__(self, heartbeat_timeout_s: float, reason: str = "") -> None:
        """Begin stopped if there is a ``reason``; a timeout of 0 means no heartbeat."""
        self.reason = reason
        """Why the arms are stopped; empty if they are not."""
        self._timeout_s = heartbeat_timeout_s
        self._beat_s = float("-inf")
        self._alive = True

    def stop(self, reason: str) -> bool:
        """Stop; return whether that is new. The first reason stays."""
        if self.reason:
            return False
        self.reason = reason
        return True

    def resume(self, now_s: float) -> str:
        """Open the lock; return why that is not possible, or an empty text."""
        fault = self.fault(now_s)
        if not fault:
            self.reason = ""
        return fault

    def beat(self, alive: bool, now_s: float) -> None:
        """Take in a heartbeat."""
        self._alive, self._beat_s = alive, now_s

    def expect(self, now_s: float) -> None:
        """Give the first heartbeat from ``now_s`` on as long as any other."""
        self._beat_s = max(self._beat_s, now_s)

    def fault(self, now_s: float) -> str:
        """Return what is wrong with the heartbeat now, or an empty text."""
        if not self._timeout_s:
            return ""
        if not self._alive:
            return "the heartbeat says false"
        silent_s = now_s - self._beat_s
        if silent_s > self._timeout_s:
            since = f"for {silent_s:.2f} s" if silent_s < 1e9 else "since the start"
            return f"the heartbeat is silent {since}, allowed is {self._timeout_s} s"
        return ""
