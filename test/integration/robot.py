"""A robot played by the test: it follows every command at once, and every sensor can fail."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from dfm_vla_ros.action import ExecuteInstruction
from dfm_vla_ros.msg import ActionChunk, ExecutorStatus, PolicyStatus
from probe import HOME, Graph
from sensor_msgs.msg import CompressedImage, Image, JointState
from small import INSTRUCTION

from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import nanoseconds
from dfm_vla_ros.nodes.messages import doubles, fill
from dfm_vla_ros.robot.joints import ARMS, CAMERAS, JOINT_NAMES

Result = ExecuteInstruction.Result
SIZE = 40
DRIVER_NAMES = [*(f"joint{i}" for i in range(1, 7)), "gripper"]


class Robot:
    """Publishes three cameras at 20 Hz and joint states at 50 Hz while the graph is served.

    Attributes:
        silent: topics' sources that publish nothing.
        frozen: cameras that repeat their picture.
        change: source -> what is done to each of its messages before it goes out; it may return
            bytes to be sent instead.
        sway_rad: how far left_joint1 swings about its command.
        published_s: source -> ROS time of its newest message [s].
    """

    def __init__(self, graph: Graph, compressed: str = "", drivers: bool = False) -> None:
        """Begin at HOME.

        Args:
            graph: to be part of.
            compressed: "", "jpeg" or "png".
            drivers: one joint state an arm, under the names of ``DRIVER_NAMES``.
        """
        self.graph, self._compressed = graph, compressed
        self.silent: set[str] = set()
        self.frozen: set[str] = set()
        self.change: dict[str, Callable[[Any], None]] = {}
        self.sway_rad = 0.0
        self.published_s: dict[str, float] = {}
        self.statuses: list[ExecutorStatus] = []
        self.policy_statuses: list[PolicyStatus] = []
        self._random = np.random.default_rng(0)
        self._pictures: dict[str, np.ndarray] = {}
        node = graph.node
        kind, suffix = (CompressedImage, "/compressed") if compressed else (Image, "")
        self._images = {
            camera: node.create_publisher(
                kind, f"{camera}_camera/image_raw{suffix}", qos.SENSOR_SOURCE
            )
            for camera in CAMERAS
        }
        topics = [f"{arm}_arm/joint_states" for arm in ARMS] if drivers else ["joint_states"]
        self._joints = {
            topic: node.create_publisher(JointState, topic, qos.SENSOR_SOURCE) for topic in topics
        }
        for store, topic, message in (
            (self.statuses, "executor_node/status", ExecutorStatus),
            (self.policy_statuses, "policy_node/status", PolicyStatus),
        ):
            node.create_subscription(message, topic, store.append, 50)
        node.create_timer(0.02, self._publish_joints)
        node.create_timer(0.05, self._publish_images)

    def heal(self) -> None:
        """Let every sensor work again."""
        self.silent.clear()
        self.frozen.clear()
        self.change.clear()
        self.sway_rad = 0.0

    def _send(self, source: str, publisher: Any, message: Any) -> None:
        if source in self.silent:
            return
        now = self.graph.node.get_clock().now()
        message.header.stamp = now.to_msg()
        changed = self.change.get(source, lambda _: None)(message)
        publisher.publish(message if changed is None else changed)
        self.published_s[source] = now.nanoseconds * 1e-9

    def _publish_joints(self) -> None:
        commanded = self.graph.commanded
        positions = np.array(commanded[-1].position) if commanded else HOME.copy()
        del commanded[:-50]
        positions[0] += self.sway_rad * np.sin(3.0 * time.monotonic())
        names = list(JOINT_NAMES) if len(self._joints) == 1 else DRIVER_NAMES * 2
        count = len(JOINT_NAMES) // len(self._joints)
        for index, (topic, publisher) in enumerate(self._joints.items()):
            part = slice(index * count, (index + 1) * count)
            message = JointState(name=names[part], position=doubles(positions[part]))
            self._send(topic, publisher, message)

    def _publish_images(self) -> None:
        for camera in reversed(CAMERAS):  # the third view last
            if camera not in self.frozen or camera not in self._pictures:
                noise = self._random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                self._pictures[camera] = noise
            self._send(camera, self._images[camera], self._message(self._pictures[camera]))

    def _message(self, pixels: np.ndarray) -> Image | CompressedImage:
        if not self._compressed:
            image = Image()
            fill(image, pixels)
            return image
        image = CompressedImage(format=self._compressed)
        _, data = cv2.imencode(f".{self._compressed}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        image.data = array("B", data.tobytes())
        return image


class Conversation:
    """Goals sent to a graph, and what came of them."""

    def __init__(self, graph: Graph) -> None:
        """Talk to ``graph``."""
        self.graph = graph

    def ask(self, instruction: str = INSTRUCTION, timeout_s: float = 60.0) -> Any:
        """Send a goal; return the future of its handle."""
        goal = ExecuteInstruction.Goal(instruction=instruction, timeout=timeout_s)
        return self.graph.client.goals.send_goal_async(goal)

    def send(self, instruction: str = INSTRUCTION, timeout_s: float = 60.0) -> Any:
        """Send a goal and return its handle."""
        sent = self.ask(instruction, timeout_s)
        self.graph.until(sent.done, "answer to the goal")
        return sent.result()

    def end(self, handle: Any) -> tuple[int, Result]:
        """Return status and result of a goal once it has ended."""
        ended = handle.get_result_async()
        self.graph.until(ended.done, "end of the goal")
        return ended.result().status, ended.result().result

    def cancel(self, handle: Any) -> tuple[int, Result]:
        """Cancel a goal and return its status and result."""
        self.graph.until(handle.cancel_goal_async().done, "answer to the cancel")
        return self.end(handle)

    def wait_chunks(self, count: int) -> None:
        """Wait for ``count`` chunks more."""
        seen = len(self.made())
        self.graph.until(lambda: len(self.made()) >= seen + count, f"{count} chunks")

    def made(self) -> list[ActionChunk]:
        """Return the chunks so far that are no holds."""
        return [chunk for chunk in self.graph.chunks if not chunk.hold]

    def wait_hold(self, handle: Any) -> ActionChunk:
        """Wait for a hold of this goal; return it."""
        goal_id = identity(handle)

        def holds() -> list[ActionChunk]:
            return [c for c in self.graph.chunks if c.hold and c.goal_id == goal_id]

        self.graph.until(lambda: bool(holds()), "hold")
        return holds()[-1]

    def last_word(self, handle: Any) -> ActionChunk:
        """Return the last message of an ended goal, seen once a later goal has its say.

        The later goal is the sentinel: what was published before its first message has come.
        """
        sentinel = self.send()
        self.wait_hold_or_chunk(sentinel)
        self.cancel(sentinel)
        self.wait_hold(sentinel)
        return [c for c in self.graph.chunks if c.goal_id == identity(handle)][-1]

    def wait_hold_or_chunk(self, handle: Any) -> None:
        """Wait for anything published for this goal."""
        goal_id = identity(handle)
        self.graph.until(
            lambda: any(chunk.goal_id == goal_id for chunk in self.graph.chunks), "its first chunk"
        )

    def spin(self, seconds: float) -> None:
        """Serve callbacks for a while."""
        end_s = time.monotonic() + seconds
        self.graph.until(lambda: time.monotonic() > end_s, "nothing", seconds + 10.0)


def identity(handle: Any) -> str:
    """Return the goal's id as chunks name it."""
    return bytes(handle.goal_id.uuid).hex()


def seconds(stamp: Any) -> float:
    """Return a stamp as seconds since 1970."""
    return nanoseconds(stamp) * 1e-9
