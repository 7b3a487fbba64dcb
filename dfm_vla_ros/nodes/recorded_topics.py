"""What a recorder listens to: which topics, how, and how often they speak."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from dfm_vla_ros.bags.types import LATCHED, TOPICS
from dfm_vla_ros.observing.cameras import TRANSPORTS
from dfm_vla_ros.observing.joint_states import ARM_TOPICS, WHOLE
from dfm_vla_ros.observing.observer import JOINT_STATE
from dfm_vla_ros.observing.settings import COMMANDED
from dfm_vla_ros.robot.joints import CAMERAS

DEPTH = 200
"""Messages of a topic that may wait while the disk is slow."""
LATE = {**dict.fromkeys(ARM_TOPICS, JOINT_STATE), "/tf": "tf2_msgs/msg/TFMessage"}
LATE |= {"/tf_static": LATE["/tf"], "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray"}
"""Recorded once somebody publishes them."""
ALWAYS_LATCHED = (*LATCHED, "/tf_static")
RATE_SAMPLES = 200


def usual_topics(transport: str) -> dict[str, str]:
    """Return what is recorded from the start: topic -> type; images as ``transport`` has them."""
    images = {f"{camera}_camera/{TRANSPORTS['raw'].suffix}": camera for camera in CAMERAS}
    chosen = TRANSPORTS[transport]
    return {
        f"{images[topic]}_camera/{chosen.suffix}" if topic in images else topic: (
            chosen.kind if topic in images else kind
        )
        for topic, kind in TOPICS.items()
    }


def needed(topics: Sequence[str]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Return what ``dfm-vla convert`` cannot do without, of these topics.

    Returns:
        name -> ways to have it, each the topics that must speak.
    """
    cameras = {
        camera: tuple((topic,) for topic in topics if topic.startswith(f"{camera}_camera/image"))
        for camera in CAMERAS
    }
    joints = ((WHOLE,), tuple(ARM_TOPICS))
    return {
        **{f"{camera} camera": ways for camera, ways in cameras.items() if ways},
        **({"joint states": joints} if WHOLE in topics else {}),
        **({COMMANDED: ((COMMANDED,),)} if COMMANDED in topics else {}),
    }


def profile(latched: bool, publishers: Sequence[TopicEndpointInfo] = ()) -> QoSProfile:
    """Return how to listen, so that every publisher there is gets through."""
    offered = [info.qos_profile for info in publishers]
    reliable = all(q.reliability != ReliabilityPolicy.BEST_EFFORT for q in offered)
    durable = all(q.durability == DurabilityPolicy.TRANSIENT_LOCAL for q in offered)
    return QoSProfile(
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL
        if latched and durable
        else DurabilityPolicy.VOLATILE,
        history=HistoryPolicy.KEEP_LAST,
        depth=DEPTH,
    )


class Rates:
    """How often each topic speaks, and which are silent; steady time."""

    def __init__(self) -> None:
        """Nobody has spoken."""
        self._came: dict[str, deque[float]] = {}
        self._began_s = time.monotonic()

    def note(self, topic: str) -> None:
        """A message came."""
        self._came.setdefault(topic, deque(maxlen=RATE_SAMPLES)).append(time.monotonic())

    def heard(self, topic: str) -> bool:
        """Return whether ``topic`` ever spoke."""
        return topic in self._came

    def silent_s(self, topic: str) -> float:
        """Return for how long nothing came [s]."""
        came = self._came.get(topic)
        return time.monotonic() - (came[-1] if came else self._began_s)

    def rate_hz(self, topic: str) -> float:
        """Return the rate over the last messages; it falls once they stop."""
        came = self._came.get(topic)
        if not came or len(came) < 2:
            return 0.0
        return (len(came) - 1) / max(time.monotonic() - came[0], came[-1] - came[0])


def missing(
    wanted: Mapping[str, tuple[tuple[str, ...], ...]], speaks: Callable[[str], bool]
) -> list[str]:
    """Return what can be had in no way, as not all topics of one speak."""
    return [
        f"{name} ({' or '.join(' and '.join(way) for way in ways)})"
        for name, ways in wanted.items()
        if not any(all(speaks(topic) for topic in way) for way in ways)
    ]
