"""Quality of service: one profile per kind of topic."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.resources import resource_path

SENSOR = QoSProfile(
    reliability=ReliabilityPolicy.BEST_EFFORT, history=HistoryPolicy.KEEP_LAST, depth=1
)
"""Images and joint states as received: the newest or nothing."""

SENSOR_SOURCE = QoSProfile(
    reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST, depth=5
)
"""Images and joint states as published: whoever wants every one may ask for it."""

COMMAND = QoSProfile(
    reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST, depth=1
)
"""Chunks and trajectories."""

EVERY_COMMAND = QoSProfile(
    reliability=ReliabilityPolicy.RELIABLE, history=HistoryPolicy.KEEP_LAST, depth=10
)
"""Chunks as received: a hold does not push out a chunk that is to be counted."""

STATUS = QoSProfile(
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
)
"""Latched: a late subscriber gets the newest."""


PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
CHOICES = (PROFILES, "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
SHARED, UDP = "config/fastdds.xml", "config/fastdds_udp.xml"


def share_more_memory() -> None:
    """Use ``config/fastdds.xml`` unless the user chose transports; call before rclpy.init."""
    _choose(SHARED)


def only_udp() -> None:
    """Use no shared memory, here and in processes started from here; call before rclpy.init.

    Over Fast DDS's shared memory a node that took the place of a killed one was out of reach for
    a process that had known the other, once in about 40 kills (docs/safety.md).
    """
    _choose(UDP)


def is_only_udp() -> bool:
    """Return whether this process is to use UDP on this machine alone."""
    return os.environ.get(PROFILES) == str(resource_path(UDP))


def _choose(profile: str) -> None:
    if not any(os.environ.get(name) for name in CHOICES):
        os.environ[PROFILES] = str(resource_path(profile))


DOMAINS = 101
"""1..101 keep DDS's ports below those that the system hands out itself."""


class NoDomain(DfmVlaError):
    """Every domain is taken."""


def local() -> dict[str, str]:
    """Return the environment of a graph that sees no other machine, whatever the user's sees."""
    # LOCALHOST makes rmw_fastrtps add shared memory; the profile sees to both by itself.
    reach = "SYSTEM_DEFAULT" if is_only_udp() else "LOCALHOST"
    return {"ROS_AUTOMATIC_DISCOVERY_RANGE": reach, "ROS_STATIC_PEERS": ""}


@contextmanager
def own_domain() -> Iterator[int]:
    """Hold a free ROS_DOMAIN_ID; the kernel frees the lock of a process that dies."""
    for attempt in range(DOMAINS):
        domain = 1 + (os.getpid() + attempt) % DOMAINS
        path = Path(tempfile.gettempdir()) / f"dfm_vla_ros_domain_{domain}.lock"
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield domain
            return
    raise NoDomain(f"all {DOMAINS} ROS domains are locked in {tempfile.gettempdir()}: end a demo")
