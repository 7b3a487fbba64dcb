"""The Foxglove layout shows topics and fields that exist, and every panel has its place."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import JOINT_NAMES

TYPES = {
    "/joint_states": "sensor_msgs/JointState",
    "/commanded_joint_states": "sensor_msgs/JointState",
    "/action_chunk": "dfm_vla_ros/ActionChunk",
    "/task_status": "dfm_vla_ros/TaskStatus",
    "/policy_node/status": "dfm_vla_ros/PolicyStatus",
    "/executor_node/status": "dfm_vla_ros/ExecutorStatus",
    "/robot_description": "std_msgs/String",
    "/monitor_node/markers": "visualization_msgs/MarkerArray",
    "/monitor_node/image": "sensor_msgs/Image",
    **{
        f"/{camera}_camera/{suffix}": f"sensor_msgs/{kind}"
        for camera in ("third", "left_wrist", "right_wrist")
        for suffix, kind in (("image_raw", "Image"), ("camera_info", "CameraInfo"))
    },
}


@pytest.fixture(scope="module")
def layout() -> dict:
    path = resource_path("config/foxglove/dual_arm.json")
    return json.loads(path.read_text(encoding="utf-8"))


def texts(tree: Any) -> Iterator[str]:
    """Yield every text that names a topic, keys included."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from texts(key)
            yield from texts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from texts(value)
    elif isinstance(tree, str) and tree.startswith("/"):
        yield tree


def leaves(place: Any) -> list[str]:
    if isinstance(place, str):
        return [place]
    return [*leaves(place["first"]), *leaves(place["second"])]


def test_that_every_panel_has_one_place(layout: dict) -> None:
    assert sorted(leaves(layout["layout"])) == sorted(layout["configById"])


def test_that_every_topic_and_field_exists(layout: dict) -> None:
    found = set(texts(layout))
    assert len(found) > 30
    for text in found:
        topic, _, field = text.partition(".")
        package, name = TYPES[topic].split("/")
        if field:
            kind = getattr(importlib.import_module(f"{package}.msg"), name)
            assert re.sub(r"\[\d+\]", "", field) in kind.get_fields_and_field_types()


def test_that_joints_are_plotted_under_their_names(layout: dict) -> None:
    for side in ("left", "right"):
        for path in layout["configById"][f"Plot!{side}"]["paths"]:
            index = int(re.search(r"\[(\d+)\]", path["value"]).group(1))
            assert path["label"].split()[0] == JOINT_NAMES[index]
