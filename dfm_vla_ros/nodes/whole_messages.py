"""Subscriptions that tell of torn messages; rclpy itself drops them without a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message


class WholeMessages:
    """Subscribes in place of a node."""

    def __init__(self, node: Node, on_torn: Callable[[str, str], None]) -> None:
        """Call ``on_torn`` with topic and reason when the bytes are no message of the type."""
        self._node, self._on_torn = node, on_torn

    def create_subscription(
        self, kind: type, topic: str, callback: Callable[[Any], None], profile: QoSProfile
    ) -> None:
        """Call ``callback`` with each whole message; see ``Node.create_subscription``."""

        def take(serialized: bytes) -> None:
            try:
                message = deserialize_message(serialized, kind)
            except Exception as error:  # noqa: BLE001 - rclpy raises RuntimeError and others
                self._on_torn(topic, f"torn message of {len(serialized)} bytes: {error}")
                return
            callback(message)

        self._node.create_subscription(kind, topic, take, profile, raw=True)
