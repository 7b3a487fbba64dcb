"""How processes send to others on their machine."""

from __future__ import annotations

import os

from dfm_vla_ros.resources import resource_path

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
