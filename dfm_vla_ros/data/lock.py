"""One writer at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dfm_vla_ros.data.format import DatasetError

LOCK = ".lock"


def lock(folder: Path) -> int:
    """Return an open file that holds the folder's lock; closing it lets others in."""
    path = folder / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.read(descriptor, 100).decode(errors="replace").strip()
        os.close(descriptor)
        raise DatasetError(
            f"{folder} is being written by process {owner or 'unknown'}; wait until it is done, "
            "or give another folder"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
