"""How nodes of other packages are called: stand-ins write down their command lines.

controller_manager, robot_state_publisher and rviz2 are not among the wheels.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS installation, not by pip")

from launched import PATIENCE_S, Launched

pytestmark = pytest.mark.launch

EXECUTABLES = {
    "controller_manager": ("ros2_control_node", "spawner"),
    "robot_state_publisher": ("robot_state_publisher",),
    "rviz2": ("rviz2",),
}
STAND_IN = """#!/usr/bin/env python3
import json, os, signal, sys, threading, uuid
ended = threading.Event()
signal.signal(signal.SIGINT, lambda *_: ended.set())
files = [sys.argv[i + 1] for i, word in enumerate(sys.argv) if word == "--params-file"]
call = {"name": os.path.basename(sys.argv[0]), "words": sys.argv[1:],
        "files": [open(file).read() for file in files]}
path = os.path.join(os.environ["CALLS"], uuid.uuid4().hex)
with open(path + ".part", "w") as file:
    json.dump(call, file)
os.rename(path + ".part", path + ".json")
if call["name"] != "spawner":
    ended.wait()
"""


class Calls:
    """A prefix of stand-ins, and what they were called with."""

    def __init__(self, folder: Path) -> None:
        """Make the packages."""
        self._written = folder / "calls"
        self._written.mkdir()
        index = folder / "share/ament_index/resource_index/packages"
        index.mkdir(parents=True)
        for package, names in EXECUTABLES.items():
            (index / package).touch()
            for name in names:
                file = folder / "lib" / package / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(STAND_IN, encoding="utf-8")
                file.chmod(0o755)
        prefixes = f"{folder}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}"
        self.environment = {"CALLS": str(self._written), "AMENT_PREFIX_PATH": prefixes}

    def wait(self, count: int, launched: Launched) -> list[dict[str, Any]]:
        """Return the calls once there are ``count``, by name."""
        end_s = time.monotonic() + PATIENCE_S
        while len(files := list(self._written.glob("*.json"))) < count:
            assert time.monotonic() < end_s, launched.output
            time.sleep(0.1)
        calls = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        return sorted(calls, key=lambda call: (call["name"], call["words"]))


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path)


def test_that_mock_hardware_starts_the_controllers_in_the_namespace(
    start_launch: Callable[..., Launched], calls: Calls
) -> None:
    launched = start_launch("control.launch.py", calls.environment, namespace="robot")
    manager, *spawners = calls.wait(3, launched)
    assert manager["name"] == "ros2_control_node"
    assert "__ns:=/robot" in manager["words"]
    controllers = [[w for w in call["words"] if w.endswith("er")] for call in spawners]
    separate = ["left_arm_controller", "right_arm_controller"]
    assert sorted(controllers) == [["joint_state_broadcaster"], separate]
    for call in spawners:
        assert "__ns:=/robot" in call["words"]
        assert call["words"][call["words"].index("--param-file") + 1].endswith("controllers.yaml")
    assert yaml.safe_load(manager["files"][0])["/**/controller_manager"]
    launched.end()


def test_that_one_controller_for_both_arms_replaces_the_two(
    start_launch: Callable[..., Launched], calls: Calls
) -> None:
    launched = start_launch("control.launch.py", calls.environment, joined="true")
    words = [word for call in calls.wait(3, launched) for word in call["words"]]
    assert "both_arms_controller" in words
    assert "left_arm_controller" not in words
    launched.end()


def test_that_bringup_on_mock_hardware_has_one_source_of_joint_states_and_rviz(
    start_launch: Callable[..., Launched], calls: Calls
) -> None:
    launched = start_launch(
        "bringup.launch.py",
        calls.environment,
        namespace="robot",
        autostart="false",
        use_mock_hardware="true",
        use_rviz="true",
    )
    found = {call["name"]: call for call in calls.wait(5, launched)}
    assert set(found) == {name for names in EXECUTABLES.values() for name in names}
    publisher = found["robot_state_publisher"]
    (parameters,) = (yaml.safe_load(text) for text in publisher["files"])
    ((_, values),) = parameters.items()
    assert "mock_components/GenericSystem" in values["ros__parameters"]["robot_description"]
    assert {"/tf:=tf", "/tf_static:=tf_static", "__ns:=/robot"} <= set(publisher["words"])
    assert "__ns:=/robot" in found["rviz2"]["words"]
    assert Path(found["rviz2"]["words"][1]).name == "dual_arm.rviz"
    twin = [line for line in process_lines(launched) if "sim_node" in line]
    assert twin
    assert all("joint_states:=twin/joint_states" in line for line in twin)
    launched.end()


def process_lines(launched: Launched) -> list[str]:
    """Return the command lines of a launch's children."""
    pid = launched.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    lines = [Path(f"/proc/{child}/cmdline").read_text() for child in children]
    return [line.replace("\0", " ") for line in lines]
