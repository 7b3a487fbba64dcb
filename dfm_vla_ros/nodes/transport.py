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

    In Fast DDS 2.14 a process killed while it takes a message out of shared memory leaves a port
    that still counts as healthy (``Port::check_status_all_listeners`` looks at waiting listeners
    only). Its successor makes a new one of the same number; the others go on filling the old.
    """
    _choose(UDP)


def is_only_udp() -> bool:
    """Return whether this process is to use UDP on this machine alone."""
    return os.environ.get(PROFILES) == str(resource_path(UDP))


def _choose(profile: str) -> None:
    if not any(os.environ.get(name) for name in CHOICES):
        os.environ[PROFILES] = str(resource_path(profile))
