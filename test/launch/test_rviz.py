"""What RViz shows exists: topics of the nodes, frames of the robot."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from dfm_vla_ros.nodes import monitor_drawing as markers
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import ARMS, CAMERAS
from dfm_vla_ros.robot.model import robot_description


@pytest.fixture(scope="module")
def manager() -> dict:
    text = resource_path("rviz/dual_arm.rviz").read_text(encoding="utf-8")
    return yaml.safe_load(text)["Visualization Manager"]


@pytest.fixture(scope="module")
def links() -> set[str]:
    return {link.get("name") for link in ET.fromstring(robot_description()).findall("link")}


def topics(tree: Any) -> Iterator[str]:
    """Yield every topic that a display subscribes to."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if str(key).endswith("Topic"):
                yield value["Value"]
            else:
                yield from topics(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from topics(value)


def test_that_it_shows_the_robot_every_camera_the_frames_and_the_table(manager: dict) -> None:
    kinds = {display["Class"].split("/")[1] for display in manager["Displays"]}
    assert {"RobotModel", "TF", "Grid", "Image"} <= kinds
    cameras = {f"{camera}_camera/image_raw" for camera in CAMERAS}
    monitor = {"monitor_node/markers", "monitor_node/image"}
    assert set(topics(manager)) == {"robot_description", *cameras, *monitor}


def test_that_it_names_every_namespace_of_the_markers_and_no_other(manager: dict) -> None:
    (display,) = (d for d in manager["Displays"] if d["Class"].endswith("/MarkerArray"))
    of_arms = (markers.PLAN, markers.COMMITTED, markers.REFINEMENT, markers.EXECUTED)
    expected = {f"{name}/{arm}" for name in of_arms for arm in ARMS}
    assert set(display["Namespaces"]) == {*expected, markers.STATUS, markers.COMMANDED}
    assert display["Topic"]["Reliability Policy"] == "Reliable"


def test_that_topics_follow_the_namespace(manager: dict) -> None:
    assert not [topic for topic in topics(manager) if topic.startswith("/")]


def test_that_every_frame_is_a_link_of_the_robot(manager: dict, links: set[str]) -> None:
    assert manager["Global Options"]["Fixed Frame"] in links
    assert manager["Views"]["Current"]["Target Frame"] in links
    for display in manager["Displays"]:
        assert set(display.get("Frames", {})) - {"All Enabled"} <= links
        assert display.get("Reference Frame", "base_link") in links
    cameras = {f"{camera}_camera_optical_frame" for camera in CAMERAS}
    (frames,) = (d["Frames"] for d in manager["Displays"] if "Frames" in d)
    assert cameras <= set(frames)
