"""The launch files, read by the real launch_ros."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dfm_vla_ros.resources import resource_path

pytestmark = pytest.mark.launch

# launch_ros first: without ROS, "launch" would be this checkout's folder of that name.
pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS installation, not by pip")
launch = pytest.importorskip("launch")

FILES = sorted(resource_path("launch").glob("*.launch.py"))
BY_NAME = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def declared(file: Path) -> dict[str, launch.actions.DeclareLaunchArgument]:
    """Return the arguments that a file itself declares."""
    source = launch.launch_description_sources.PythonLaunchDescriptionSource(str(file))
    entities = source.get_launch_description(launch.LaunchContext()).entities
    kind = launch.actions.DeclareLaunchArgument
    return {entity.name: entity for entity in entities if isinstance(entity, kind)}


@BY_NAME
def test_that_every_argument_says_what_it_is_for_and_has_a_default(file: Path) -> None:
    arguments = declared(file)
    assert {"namespace", "use_sim_time", "log_level"} <= set(arguments)
    for argument in arguments.values():
        assert argument.description
        assert argument.default_value is not None


@BY_NAME
def test_that_show_args_lists_them_all(file: Path, ros2: str) -> None:
    shown = subprocess.run(
        [ros2, "launch", "dfm_vla_ros", file.name, "--show-args"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    for argument in declared(file).values():
        assert f"'{argument.name}':\n        {argument.description}" in shown


def test_that_whoever_starts_the_nodes_chooses_their_file_and_their_start() -> None:
    for name in ("bringup", "policy", "piper", "cobot_magic"):
        arguments = declared(resource_path(f"launch/{name}.launch.py"))
        assert {"params_file", "autostart"} <= set(arguments)
