"""Recordings that nobody made: for tests and benchmarks, at a robot's rates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys.store import Typestore

from dfm_vla_ros.bags.storage import POLICY_STATUS, TASK_STATUS, TOPICS, make, typestore
from dfm_vla_ros.observing.cameras import Rgb
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES

START_NS = 1_795_000_000 * 10**9
IMAGE_DELAY_NS, JOINT_DELAY_NS = 15_000_000, 1_000_000
LAG_S = 0.02
"""How long the arms follow their command."""
COMPRESSED = "sensor_msgs/msg/CompressedImage"
RUNNING, READY = 2, 1

Recorded = tuple[str, str, int, Any]
"""Absolute topic, type, time of receipt [ns], message."""


@dataclass(frozen=True)
class Run:
    """What is to be recorded.

    Attributes:
        seconds: length [s].
        episode_s: from one reset to the next [s]; each has one goal, which succeeds.
        image_hz: of each camera.
        joints_hz: of measured and commanded joints.
        side_px: width and height of an image.
        packed: images as PNG (``image_raw/compressed``).
        statuses: whether anyone speaks of goals and tasks.
        commanded: whether there is an executor that says what it commands.
        noise: largest noise of a pixel; 0 is a clean picture, which is what the twin has.
    """

    seconds: float
    episode_s: float = 30.0
    image_hz: float = 20.0
    joints_hz: float = 100.0
    side_px: int = 96
    packed: bool = False
    statuses: bool = True
    commanded: bool = True
    noise: int = 0

    def messages(self) -> Iterator[Recorded]:
        """Yield all messages by time of receipt."""
        store = typestore()
        makers = [self._joints(store), self._images(store)]
        if self.statuses:
            makers.append(self._statuses(store))
        yield from sorted_merge(makers)

    def _joints(self, store: Typestore) -> Iterator[Recorded]:
        kind = TOPICS["joint_states"]
        for at_s in _times(self.seconds, self.joints_hz):
            stamp_ns = START_NS + round(at_s * 1e9)
            sources = {"joint_states": at_s - LAG_S}
            if self.commanded:
                sources["commanded_joint_states"] = at_s
            for topic, of_s in sources.items():
                positions, velocities = motion(of_s)
                message = make(store, kind, stamp_ns)
                message.name = list(JOINT_NAMES)
                message.position, message.velocity = positions, velocities
                yield f"/{topic}", kind, stamp_ns + JOINT_DELAY_NS, message

    def _images(self, store: Typestore) -> Iterator[Recorded]:
        kind = COMPRESSED if self.packed else "sensor_msgs/msg/Image"
        suffix = "/compressed" if self.packed else ""
        generator = np.random.default_rng(0)
        for number, at_s in enumerate(_times(self.seconds, self.image_hz)):
            stamp_ns = START_NS + round(at_s * 1e9)
            for camera in CAMERAS:
                pixels = picture(camera, number, self.side_px)
                if self.noise:
                    noise = generator.integers(0, self.noise + 1, pixels.shape, dtype=np.uint8)
                    pixels = pixels + noise
                message = make(store, kind, stamp_ns)
                _fill(message, pixels, self.packed)
                topic = f"/{camera}_camera/image_raw{suffix}"
                yield topic, kind, stamp_ns + IMAGE_DELAY_NS, message

    def _statuses(self, store: Typestore) -> Iterator[Recorded]:
        before = None
        for tick, at_s in enumerate(_times(self.seconds, 10.0)):
            episode, elapsed_s = divmod(at_s + 1e-9, self.episode_s)
            stamp_ns = START_NS + round(at_s * 1e9)
            left_s = self.episode_s - elapsed_s
            running = elapsed_s >= 1.0 and left_s > 1.0
            task = make(store, TOPICS[TASK_STATUS], stamp_ns)
            task.task, task.seed, task.elapsed = "place_block", int(episode), elapsed_s
            task.instruction, task.success = "place the block on the plate", left_s < 1.25
            yield f"/{TASK_STATUS}", TOPICS[TASK_STATUS], stamp_ns + JOINT_DELAY_NS, task
            if running == before and tick % 10:
                continue
            before = running
            policy = make(store, TOPICS[POLICY_STATUS], stamp_ns)
            policy.state = RUNNING if running else READY
            if running:
                policy.goal_id, policy.instruction = f"{int(episode):032x}", task.instruction
            yield f"/{POLICY_STATUS}", TOPICS[POLICY_STATUS], stamp_ns + JOINT_DELAY_NS, policy


def motion(at_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and velocities (14,) at a time: slow sines, each joint its own."""
    phases = np.arange(len(JOINT_NAMES))
    size = np.where([name.endswith("gripper") for name in JOINT_NAMES], 0.01, 0.3)
    turn = 2 * np.pi * 0.2
    positions = size * np.sin(turn * at_s + phases) + size
    return positions, size * turn * np.cos(turn * at_s + phases)


def picture(camera: str, number: int, side_px: int) -> Rgb:
    """Return (side, side, 3): a shaded ground, and a square that moves with each frame."""
    ramp = np.linspace(0, 180, side_px).astype(np.uint8)
    pixels = np.empty((side_px, side_px, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = ramp[:, None], ramp[None, :]
    pixels[..., 2] = 60 * CAMERAS.index(camera)
    side = side_px // 6
    left = number % (side_px - side)
    pixels[side : 2 * side, left : left + side] = (250, number % 250, 40)
    return pixels


def sorted_merge(makers: Iterable[Iterator[Recorded]]) -> Iterator[Recorded]:
    """Merge recordings by time of receipt."""
    import heapq

    yield from heapq.merge(*makers, key=lambda recorded: recorded[2])


def _fill(message: Any, pixels: Rgb, packed: bool) -> None:
    if packed:
        message.format = "rgb8; png compressed bgr8"
        _, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        message.data = np.asarray(data).reshape(-1)
        return
    message.height, message.width = pixels.shape[:2]
    message.encoding, message.step = "rgb8", 3 * message.width
    message.data = np.ascontiguousarray(pixels).reshape(-1)


def _times(seconds: float, rate_hz: float) -> Iterator[float]:
    for number in range(round(seconds * rate_hz)):
        yield number / rate_hz


def write_messages(
    folder: Path,
    messages: Iterable[Recorded],
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.STORAGE,
) -> Path:
    """Write a bag as a recorder would; return ``folder``."""
    store = typestore()
    writer = Writer(folder, version=9, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for topic, kind, received_ns, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            data = message if isinstance(message, bytes) else store.serialize_cdr(message, kind)
            writer.write(connections[topic], received_ns, bytes(data))
    return folder
