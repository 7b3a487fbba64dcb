"""Bags with this package's messages: rosbag2 folders (MCAP) through ``rosbags``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import ARMS, CAMERAS

PACKAGE = "dfm_vla_ros"
MESSAGES = ("ActionChunk", "ExecutorStatus", "PolicyStatus", "TaskStatus")

LATCHED = ("task_status", "policy_node/status", "executor_node/status")
TOPICS: Mapping[str, str] = {
    **{f"{camera}_camera/image_raw": "sensor_msgs/msg/Image" for camera in CAMERAS},
    **{f"{camera}_camera/camera_info": "sensor_msgs/msg/CameraInfo" for camera in CAMERAS},
    "joint_states": "sensor_msgs/msg/JointState",
    "commanded_joint_states": "sensor_msgs/msg/JointState",
    **{
        f"{arm}_arm_controller/joint_trajectory": "trajectory_msgs/msg/JointTrajectory"
        for arm in ARMS
    },
    "action_chunk": f"{PACKAGE}/msg/ActionChunk",
    "task_status": f"{PACKAGE}/msg/TaskStatus",
    "policy_node/status": f"{PACKAGE}/msg/PolicyStatus",
    "executor_node/status": f"{PACKAGE}/msg/ExecutorStatus",
}
"""What the demo records: relative topic -> type."""


def typestore() -> Typestore:
    """Return Jazzy's types and this package's."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name in MESSAGES:
        text = resource_path(f"msg/{name}.msg").read_text(encoding="utf-8")
        store.register(get_types_from_msg(text, f"{PACKAGE}/msg/{name}"))
    return store


class NoBag(DfmVlaError):
    """The folder holds something else than a bag, which must not be lost."""


def remove_bag(folder: Path) -> None:
    """Delete an earlier bag, if there is one.

    Raises:
        NoBag: ``folder`` holds anything but a bag's files; nothing is deleted.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise NoBag(f"{folder} is no bag and would be overwritten: choose another --out")
    files = sorted(folder.iterdir())
    for file in files:
        if not file.is_file() or (file.name != "metadata.yaml" and file.suffix != ".mcap"):
            raise NoBag(f"{file} is no file of a bag and would be lost: choose another --out")
    for file in files:
        file.unlink()
    folder.rmdir()


class BagWriter:
    """Writes serialized messages as they came over the wire."""

    def __init__(self, folder: Path) -> None:
        """Create ``folder``, which must not exist."""
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        store = typestore()
        self._connections = {
            topic: self._writer.add_connection(
                f"/{topic}",
                kind,
                typestore=store,
                offered_qos_profiles=[_offered(latched=topic in LATCHED)],
            )
            for topic, kind in TOPICS.items()
        }

    def write(self, topic: str, serialized: bytes, received_ns: int) -> None:
        """Add one message of the relative ``topic``."""
        self._writer.write(self._connections[topic], received_ns, serialized)

    def close(self) -> None:
        """Finish the folder; without this it cannot be read."""
        self._writer.close()


def _offered(latched: bool) -> Qos:
    """Return what a player should offer, so that a latched topic is latched again."""
    never = QosTime(9223372036, 854775807)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=never,
        lifespan=never,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=never,
        avoid_ros_namespace_conventions=False,
    )
