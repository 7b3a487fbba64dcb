"""The launch files, read by the real launch_ros."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfm_vla_ros.resources import resource_path

pytestmark = pytest.mark.launch

# launch_ros first: without ROS, "launch" would be this checkout's folder of that name.
pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS installation, not by pip")
launch = pytest.importorskip("launch")

FILES = sorted(resource_path("launch").glob("*.launch.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_that_every_argument_says_what_it_is_for_and_has_a_default(file: Path) -> None:
    source = launch.launch_description_sources.PythonLaunchDescriptionSource(str(file))
    description = source.get_launch_description(launch.LaunchContext())
    arguments = [
        e for e in description.entities if isinstance(e, launch.actions.DeclareLaunchArgument)
    ]
    assert {"namespace", "use_sim_time", "params_file", "log_level"} <= {a.name for a in arguments}
    for argument in arguments:
        assert argument.description
        assert argument.default_value is not None


def test_that_bringup_passes_its_arguments_on_to_all_its_parts() -> None:
    declared = {}
    for file in FILES:
        source = launch.launch_description_sources.PythonLaunchDescriptionSource(str(file))
        description = source.get_launch_description(launch.LaunchContext())
        declared[file.name] = {
            e.name
            for e in description.entities
            if isinstance(e, launch.actions.DeclareLaunchArgument)
        }
    parts = declared["sim.launch.py"] | declared["policy.launch.py"]
    assert declared["bringup.launch.py"] == parts
