"""``recorder``: writes the graph's topics to a bag as they come over the wire, undecoded."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from dfm_vla_ros.bags.types import LATCHED, TOPICS
from dfm_vla_ros.bags.writing import BagWriter
from dfm_vla_ros.nodes.parameters import Parameter, ParameterError, declare
from dfm_vla_ros.nodes.run import run

PARAMETERS = (Parameter("folder", "", "of the bag; must not exist"),)

DEPTH = 200
"""Messages of a topic that may wait while the disk is slow."""


class Recorder(Node):
    """Subscribes to every topic of ``bag.TOPICS`` without decoding."""

    def __init__(self) -> None:
        """Open the bag and subscribe."""
        super().__init__("recorder")
        folder = Path(declare(self, PARAMETERS)["folder"])
        if not folder.name or folder.exists():
            raise ParameterError(f"folder is {str(folder)!r}; name one that does not exist yet")
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._bag = BagWriter(folder)
        for topic, kind in TOPICS.items():
            self._record(topic, kind)
        # A signal is noticed when a callback is due, even if nothing is published.
        self.create_timer(0.1, lambda: None, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _record(self, topic: str, kind: str) -> None:
        package, _, name = kind.split("/")
        message = getattr(importlib.import_module(f"{package}.msg"), name)
        latched = topic in LATCHED
        profile = QoSProfile(
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            history=HistoryPolicy.KEEP_LAST,
            depth=DEPTH,
        )

        def write(serialized: bytes) -> None:
            self._bag.write(topic, serialized, self.get_clock().now().nanoseconds)

        self.create_subscription(message, topic, write, profile, raw=True)

    def close(self) -> None:
        """Finish the bag."""
        self._bag.close()


def main() -> int:
    """Record until SIGINT or SIGTERM."""
    return run(Recorder)


if __name__ == "__main__":
    sys.exit(main())
