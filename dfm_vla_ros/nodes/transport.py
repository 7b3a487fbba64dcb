"""How a process that publishes images sends them to others on its machine."""

from __future__ import annotations

import os

from dfm_vla_ros.resources import resource_path

PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
CHOICES = (PROFILES, "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")


def share_more_memory() -> None:
    """Use ``config/fastdds.xml`` unless the user chose transports; call before rclpy.init."""
    if not any(os.environ.get(name) for name in CHOICES):
        os.environ[PROFILES] = str(resource_path("config/fastdds.xml"))
