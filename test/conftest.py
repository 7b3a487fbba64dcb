"""What every test shares: a ROS domain of its own, headless rendering, calm hypothesis."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

DOMAINS = 101

os.environ.setdefault("MUJOCO_GL", "egl")
# The tests' networks are too small for threads, which on busy cores wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
# A shell starts what runs in the background with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Shared cores make a time limit per example fail at random.
settings.register_profile("dfm_vla", deadline=None)
settings.load_profile("dfm_vla")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what drives a running graph; skip the tests marked ``gpu`` where there is none."""
    for item in items:
        if item.path.parent.name in ("integration", "launch"):
            item.add_marker(pytest.mark.timing)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS_DOMAIN_ID in 1..101 that no other test on this machine has, set in the environment.

    A lock file per domain, so that test runs side by side keep apart; the kernel frees the lock
    of a run that dies.
    """
    for attempt in range(DOMAINS):
        domain = 1 + (os.getpid() + attempt) % DOMAINS
        path = Path(tempfile.gettempdir()) / f"dfm_vla_ros_domain_{domain}.lock"
        with path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
            yield domain
            return
    pytest.fail(f"all {DOMAINS} ROS domains are taken by running tests")
