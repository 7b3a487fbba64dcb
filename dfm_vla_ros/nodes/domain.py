"""A ROS domain that no other demo, benchmark or test on this machine uses."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.nodes import transport

DOMAINS = 101
"""1..101 keep DDS's ports below those that the system hands out itself."""


class NoDomain(DfmVlaError):
    """Every domain is taken."""


def local() -> dict[str, str]:
    """Return the environment of a graph that sees no other machine, whatever the user's sees."""
    # LOCALHOST makes rmw_fastrtps add shared memory; the profile sees to both by itself.
    reach = "SYSTEM_DEFAULT" if transport.is_only_udp() else "LOCALHOST"
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
