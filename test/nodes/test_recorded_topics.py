"""A recorder listens as publishers speak, and knows what it misses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from dfm_vla_ros.bags.storage import TOPICS
from dfm_vla_ros.nodes.recorder import missing, needed, profile, usual_topics


def publisher(reliable: bool, durable: bool) -> SimpleNamespace:
    offered = QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if durable else DurabilityPolicy.VOLATILE,
    )
    return SimpleNamespace(qos_profile=offered)


@pytest.mark.parametrize("reliable", [True, False])
@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("latched", [True, False])
def test_that_no_more_is_asked_for_than_is_offered(
    reliable: bool, durable: bool, latched: bool
) -> None:
    asked = profile(latched, [publisher(True, True), publisher(reliable, durable)])
    assert (asked.reliability == ReliabilityPolicy.RELIABLE) == reliable
    assert (asked.durability == DurabilityPolicy.TRANSIENT_LOCAL) == (latched and durable)


def test_that_packed_images_are_recorded_in_place_of_raw_ones() -> None:
    raw, packed = usual_topics("raw"), usual_topics("compressed")
    assert raw == TOPICS
    assert "third_camera/image_raw" not in packed
    assert packed["third_camera/image_raw/compressed"] == "sensor_msgs/msg/CompressedImage"
    assert len(packed) == len(raw)


def test_that_two_arms_replace_one_message_for_both_and_one_arm_does_not() -> None:
    wanted = needed(list(TOPICS))
    speaking = {"third_camera/image_raw", "left_wrist_camera/image_raw", "left_arm/joint_states"}
    assert missing(wanted, speaking.__contains__) == [
        "right_wrist camera (right_wrist_camera/image_raw)",
        "joint states (joint_states or left_arm/joint_states and right_arm/joint_states)",
        "commanded_joint_states (commanded_joint_states)",
    ]
    speaking |= {"right_arm/joint_states"}
    assert not any("joint states" in name for name in missing(wanted, speaking.__contains__))


def test_that_only_what_was_named_is_missed() -> None:
    assert list(needed(["joint_states", "/grip"])) == ["joint states"]
