"""Notices that the clock went backward."""

from __future__ import annotations

from rclpy.node import Node

TOLERANCE_S = 0.05
"""A clock that is disciplined while it runs may step back by less."""


class ClockWatch:
    """Compares the node's clock at each look; a bag that is played again jumps back."""

    def __init__(self, node: Node) -> None:
        """Begin with the clock of now."""
        self._clock = node.get_clock()
        self._last_ns = self._clock.now().nanoseconds

    def jumped_back_s(self) -> float:
        """Return by how much the clock went back since the last call [s]; 0 if it did not."""
        before_ns, self._last_ns = self._last_ns, self._clock.now().nanoseconds
        back_s = (before_ns - self._last_ns) * 1e-9
        return back_s if back_s > TOLERANCE_S else 0.0
