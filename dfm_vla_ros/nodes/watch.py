"""What the policy node sees: an Observer that subscriptions feed."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from rclpy.node import Node

from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.whole_messages import WholeMessages
from dfm_vla_ros.observing.observer import TASK_STATUS, Observer
from dfm_vla_ros.observing.settings import ObserverSettings
from dfm_vla_ros.observing.sources import Moment
from dfm_vla_ros.observing.stamps import TimeBase


class Watch(Observer):
    """Subscribes to cameras, joints and the task; knows what time it is."""

    def __init__(
        self, node: Node, time_base: TimeBase, settings: ObserverSettings, on_image: Callable
    ) -> None:
        """Call ``on_image`` after each image of the triggering camera."""
        super().__init__(time_base, settings)
        self._node, self._on_image = node, on_image
        whole = WholeMessages(node, self.refuse)
        for topic, kind in self.topics.items():
            latched = topic == TASK_STATUS
            subscribe = (node if latched else whole).create_subscription
            profile = qos.STATUS if latched else qos.SENSOR
            subscribe(message_type(kind), topic, self._feeder(topic), profile)

    def _feeder(self, topic: str) -> Callable[[Any], None]:
        def feed(message: Any) -> None:
            if self.feed(topic, message, self.now()):
                self._on_image()

        return feed

    def now(self) -> Moment:
        """Return the present on both clocks."""
        ros_ns = self._node.get_clock().now().nanoseconds
        return Moment(self._time.from_nanoseconds(ros_ns), time.monotonic())

    def complaint(self, now: Moment | None = None) -> str:
        """Return what is missing, too old, frozen or unusable, or an empty text."""
        return super().complaint(now or self.now())


def message_type(kind: str) -> type:
    """Return the class of a type like ``sensor_msgs/msg/Image``."""
    package, folder, name = kind.split("/")
    return getattr(import_module(f"{package}.{folder}"), name)
