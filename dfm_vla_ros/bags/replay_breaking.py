"""Copies of a bag with one fault put in, as if the robot had been set up wrongly.

What a fault looks like in a report is learnt by making it: the copy holds what a policy would have
been told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dfm_vla_ros.bags.reading import Bag, BagError
from dfm_vla_ros.bags.records import relative_topics
from dfm_vla_ros.bags.storage import CHUNKS, typestore
from dfm_vla_ros.bags.writing import BagWriter, remove_bag
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.observing.cameras import to_rgb
from dfm_vla_ros.observing.sources import MEASURED
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES

Change = Callable[[str, Any], None]
"""Changes a message of a relative topic in place."""

SHIFT = 0.09
"""Of a picture's width and height: what a camera that was knocked shows."""
OFFSET_RAD = 0.12
SCALE = 2.0
"""A driver that measures from finger to finger."""
IMAGES = tuple(f"{camera}_camera/image_raw" for camera in CAMERAS)
INFOS = tuple(f"{camera}_camera/camera_info" for camera in CAMERAS)


class UnknownFault(DfmVlaError):
    """No such fault can be put in."""


def _bgr(topic: str, message: Any) -> None:
    """Exchange red and blue under the name of rgb8."""
    if topic in IMAGES:
        _repaint(message, lambda pixels: pixels[..., ::-1])


def _shift(topic: str, message: Any) -> None:
    """Let the third camera look elsewhere."""
    if topic != IMAGES[0]:
        return

    def moved(pixels: np.ndarray) -> np.ndarray:
        down, right = (round(SHIFT * size) for size in pixels.shape[:2])
        padded = np.pad(pixels, ((down, 0), (right, 0), (0, 0)), mode="edge")
        return padded[: pixels.shape[0], : pixels.shape[1]]

    _repaint(message, moved)


def _joints(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Return what changes measured joints (D,), in their topic and in what chunks were made of."""

    def apply(topic: str, message: Any) -> None:
        if topic == MEASURED:
            at = {name: index for index, name in enumerate(message.name)}
            columns = [at[name] for name in JOINT_NAMES if name in at]
            if len(columns) == len(JOINT_NAMES):
                positions = np.array(message.position)
                positions[columns] = change(positions[columns])
                message.position = positions
        elif topic == CHUNKS and len(getattr(message, "measured_positions", ())):
            message.measured_positions = change(message.measured_positions)

    return apply


def _reordered(positions: np.ndarray) -> np.ndarray:
    """Return each arm's joints 2 to 6 as a driver gives them that begins with the second."""
    found = positions.copy()
    for first in (0, 7):
        found[first : first + 6] = np.roll(positions[first : first + 6], -1)
    return found


def _offset(positions: np.ndarray) -> np.ndarray:
    """Return joints whose zeros are no longer those of the calibration."""
    found = positions.copy()
    found[[1, 2, 8, 9]] += OFFSET_RAD
    return found


def _scaled(positions: np.ndarray) -> np.ndarray:
    """Return grippers measured from finger to finger."""
    found = positions.copy()
    found[[6, 13]] *= SCALE
    return found


FAULTS: Mapping[str, Change] = {
    "swap_wrists": lambda topic, message: None,  # topics change their names, not messages
    "bgr": _bgr,
    "joint_order": _joints(_reordered),
    "stale_calibration": _shift,
    "joint_offset": _joints(_offset),
    "gripper_scale": _joints(_scaled),
}
"""Name -> what it does to a message."""


def broken_copy(bag: Path, folder: Path, fault: str, namespace: str = "") -> Path:
    """Write a copy of ``bag`` with a fault in it and return its folder.

    Args:
        bag: to be copied.
        folder: of the copy; one that is there is replaced.
        fault: a key of FAULTS.
        namespace: of the topics.

    Raises:
        UnknownFault: there is no such fault.
        BagError: the bag holds none of this package's topics.
        NoBag: ``folder`` holds something else than a bag.
    """
    if fault not in FAULTS:
        raise UnknownFault(f"there is no fault {fault!r}; give one of {', '.join(FAULTS)}")
    if folder.exists() and folder.resolve() == bag.resolve():
        raise UnknownFault(f"{bag} would be overwritten by its copy: give another --out")
    store = typestore()
    with Bag(bag) as source:
        wanted = (CHUNKS, MEASURED, *IMAGES, *INFOS)
        names = {name: rel for rel, name in relative_topics(source, wanted, namespace).items()}
        if not names:
            raise BagError(f"{bag} holds none of this package's topics")
        kept = {topic: kind for topic, kind in source.topics.items() if kind in store.fielddefs}
        remove_bag(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        writer = BagWriter(folder, kept, latched=[t for t in kept if t.endswith("status")])
        try:
            for message in source.messages(kept):
                topic, relative = message.topic, names.get(message.topic, "")
                FAULTS[fault](relative, message.value)
                if fault == "swap_wrists":
                    topic = _exchanged(topic)
                data = store.serialize_cdr(message.value, message.kind)
                writer.write(topic, data, message.received_ns)
        finally:
            writer.close()
    return folder


def _exchanged(topic: str) -> str:
    """Return the other wrist camera's topic for one of them."""
    left, right = "left_wrist_camera/", "right_wrist_camera/"
    return topic.replace(left, right) if left in topic else topic.replace(right, left)


def _repaint(message: Any, change: Callable[[np.ndarray], np.ndarray]) -> None:
    pixels = np.ascontiguousarray(change(to_rgb(message)))
    message.encoding, message.step = "rgb8", 3 * message.width
    message.data = pixels.reshape(-1)
