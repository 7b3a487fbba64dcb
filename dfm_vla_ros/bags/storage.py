"""What the files of a bag hold, whatever their format."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import ARMS, CAMERAS

PACKAGE = "dfm_vla_ros"
MESSAGES = tuple(
    f"{PACKAGE}/msg/{name}"
    for name in ("ActionChunk", "ExecutorStatus", "PolicyStatus", "PolicyTrace", "TaskStatus")
)

TASK_STATUS, POLICY_STATUS, CHUNKS = "task_status", "policy_node/status", "action_chunk"
LATCHED = (TASK_STATUS, POLICY_STATUS, "executor_node/status")
TOPICS: Mapping[str, str] = {
    **{f"{camera}_camera/image_raw": "sensor_msgs/msg/Image" for camera in CAMERAS},
    **{f"{camera}_camera/camera_info": "sensor_msgs/msg/CameraInfo" for camera in CAMERAS},
    "joint_states": "sensor_msgs/msg/JointState",
    "commanded_joint_states": "sensor_msgs/msg/JointState",
    **{
        f"{arm}_arm_controller/joint_trajectory": "trajectory_msgs/msg/JointTrajectory"
        for arm in ARMS
    },
    CHUNKS: f"{PACKAGE}/msg/ActionChunk",
    TASK_STATUS: f"{PACKAGE}/msg/TaskStatus",
    POLICY_STATUS: f"{PACKAGE}/msg/PolicyStatus",
    "executor_node/status": f"{PACKAGE}/msg/ExecutorStatus",
}
"""What the demo records: relative topic -> type."""


def typestore() -> Typestore:
    """Return Jazzy's types and this package's."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for kind in MESSAGES:
        text = resource_path(f"msg/{kind.rpartition('/')[2]}.msg").read_text(encoding="utf-8")
        store.register(get_types_from_msg(text, kind))
    return store


def make(store: Typestore, kind: str, stamp_ns: int = 0) -> Any:
    """Return a message of zeros and empty texts, stamped if it has a header."""
    _, fields = store.fielddefs[kind]
    message = store.types[kind](**{name: zero(store, field) for name, field in fields})
    if hasattr(message, "header"):
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    return message


def zero(store: Typestore, field: Any) -> Any:
    """Return what a field of a definition holds before anything is put into it."""
    shape, details = field
    if shape == Nodetype.NAME:
        return make(store, details)
    if shape == Nodetype.BASE:
        return "" if details[0] == "string" else False if details[0] == "bool" else 0
    (inner_shape, inner), length = details
    if inner_shape == Nodetype.BASE and inner[0] != "string":
        return np.zeros(length if shape == Nodetype.ARRAY else 0, np.dtype(inner[0]))
    return []


@dataclass(frozen=True)
class Channel:
    """A topic as one file has it.

    Attributes:
        topic: its absolute name.
        kind: type of its messages.
        encoding: of them; "cdr" is understood.
        language: of the definition: ros2msg, ros2idl or nothing.
        definition: of the type, or nothing.
    """

    topic: str
    kind: str
    encoding: str
    language: str = ""
    definition: str = ""


class Raw(NamedTuple):
    """A message as it is stored."""

    received_ns: int
    data: bytes | memoryview


Item = TypeVar("Item")


def in_order(
    items: Iterable[Item],
    key: Callable[[Item], int],
    window_ns: int,
    rank: Callable[[Item], int] = lambda _: 0,
) -> Iterator[Item]:
    """Yield ``items`` by time.

    Args:
        items: at most ``window_ns`` from their order. One that is further back means that time
            went back: what came before it goes first.
        key: time of an item [ns].
        window_ns: how long an item waits for earlier ones.
        rank: order of items of one time; those of one rank keep theirs.
    """
    waiting: list[tuple[int, int, int, Item]] = []
    newest_ns = -(2**63)
    for number, item in enumerate(items):
        at_ns = key(item)
        if at_ns < newest_ns - window_ns:
            while waiting:
                yield heapq.heappop(waiting)[3]
            newest_ns = at_ns
        newest_ns = max(newest_ns, at_ns)
        heapq.heappush(waiting, (at_ns, rank(item), number, item))
        while waiting[0][0] < newest_ns - window_ns:
            yield heapq.heappop(waiting)[3]
    while waiting:
        yield heapq.heappop(waiting)[3]
