"""Real launches: ``ros2 launch`` in a process of its own, a probe in the test's."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from launched import Launched

from dfm_vla_ros.nodes.qos import own_domain


@pytest.fixture(scope="session")
def ros2() -> str:
    """The path of ``ros2``; without it the test is skipped."""
    pytest.importorskip(
        "launch_ros", reason="launch_ros comes with a ROS installation, not by pip"
    )
    found = shutil.which("ros2")
    if found is None:
        pytest.skip("ros2 launch comes with a ROS installation, not by pip")
    return found


@pytest.fixture(scope="module")
def start_launch(
    ros2: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Launched]]:
    """Launch files of this package with arguments, in one ROS domain; all end with the module."""
    started: list[Launched] = []
    with own_domain() as domain:

        def start(file: str, environment: dict | None = None, **arguments: str) -> Launched:
            logs = tmp_path_factory.mktemp("launch")
            given = {**os.environ, **(environment or {})}
            started.append(Launched([ros2, "launch"], file, arguments, domain, logs, given))
            return started[-1]

        yield start
        for launched in started:
            launched.end()
