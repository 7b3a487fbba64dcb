"""What an image runs through on its way to a trajectory: policy_node and executor_node, traced.

Both nodes run in one process with the shipped checkpoint, a made-up robot and a goal. Counted are
the distinct files and functions of the package that run from the callback of the third camera's
image, over the inference thread, to the end of the executor's callback, which has published the
trajectory. Usage: ``python experiments/walk.py [--mermaid]``.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import rclpy
from dfm_vla_ros.action import ExecuteInstruction
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

import dfm_vla_ros
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.executor_node import ExecutorNode
from dfm_vla_ros.nodes.policy_node import PolicyNode
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES

PACKAGE = str(Path(dfm_vla_ros.__file__).parent) + os.sep
INSTRUCTION = "place the block on the plate"
TOO_LONG_S = 60.0
SIZE_PX = 96
HOME = np.array([0.0, 1.455, -0.729, 0.0, 0.931, 0.0, 0.035] * 2)
"""Both arms before the table, [rad] and [m]."""


class Walk:
    """The functions of the package that ran, in the order in which they were entered first.

    Attributes:
        functions: (file, name) -> how often it was entered.
        steps: from file to file -> how often.
        entries: files in the order in which they were entered, repeats left out.
    """

    def __init__(self) -> None:
        """Begin before the image."""
        self.clear()

    def clear(self) -> None:
        """Forget what was seen: the image started no chunk."""
        self.functions: Counter[tuple[str, str]] = Counter()
        self.steps: Counter[tuple[str, str]] = Counter()
        self.entries: list[str] = []

    def profile(self, frame: FrameType, event: str, _: Any) -> None:
        """Take note of a call; for `sys.setprofile`."""
        if event != "call" or not _is_ours(frame.f_code):
            return
        file = _file(frame.f_code)
        self.functions[file, frame.f_code.co_qualname] += 1
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(PACKAGE):
            caller = caller.f_back
        if caller is not None and _file(caller.f_code) != file:
            self.steps[_file(caller.f_code), file] += 1
        if not self.entries or self.entries[-1] != file:
            self.entries.append(file)

    def files(self) -> dict[str, int]:
        """Return file -> how many of its functions ran."""
        return Counter(file for file, _ in self.functions)


def _is_ours(code: CodeType) -> bool:
    comprehension = code.co_name in ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")
    return code.co_filename.startswith(PACKAGE) and not comprehension


def _file(code: CodeType) -> str:
    return code.co_filename.removeprefix(PACKAGE).removesuffix(".py")


class Robot(Node):
    """Cameras and joints that a policy can use; its arms follow every command at once."""

    def __init__(self) -> None:
        """Publish from now on."""
        super().__init__("robot")
        self._random = np.random.default_rng(0)
        self._joints = self.create_publisher(JointState, "joint_states", qos.SENSOR_SOURCE)
        self._cameras = {
            camera: self.create_publisher(Image, f"{camera}_camera/image_raw", qos.SENSOR_SOURCE)
            for camera in reversed(CAMERAS)
        }
        self._commanded = HOME
        self.create_subscription(JointState, "commanded_joint_states", self._follow, qos.SENSOR)
        self.create_timer(0.02, self._send_joints)
        self.create_timer(0.05, self._send_images)

    def _follow(self, message: JointState) -> None:
        self._commanded = np.array(message.position)

    def _send_joints(self) -> None:
        message = JointState(name=list(JOINT_NAMES), position=self._commanded.tolist())
        message.header.stamp = self.get_clock().now().to_msg()
        self._joints.publish(message)

    def _send_images(self) -> None:
        for publisher in self._cameras.values():
            image = Image(height=SIZE_PX, width=SIZE_PX, encoding="rgb8", step=3 * SIZE_PX)
            image.data = self._random.integers(0, 256, 3 * SIZE_PX**2, np.uint8).tobytes()
            image.header.stamp = self.get_clock().now().to_msg()
            publisher.publish(image)


class Tracer:
    """Records the first image that becomes a trajectory."""

    def __init__(self) -> None:
        """Trace nothing yet; threads made from now on can be traced."""
        self.walk, self.done, self._armed = Walk(), False, False
        threading.setprofile(self._on_inference_thread)

    def arm(self, policy: Node, executor: Node) -> None:
        """Record from the next image on."""
        if self._armed:
            return
        self._armed = True
        self._wrap(policy, "third_camera/image_raw", self._on_image)
        self._wrap(executor, "action_chunk", self._on_chunk)

    def _wrap(self, node: Node, topic: str, wrapper: Any) -> None:
        for found in node.subscriptions:
            if found.topic_name.endswith(topic):
                callback = found.callback
                found.callback = partial(wrapper, callback)

    def _on_image(self, callback: Any, message: Any) -> None:
        if self.walk.functions:  # the chunk of an earlier image is under way
            callback(message)
            return
        self._run(callback, message)
        if not any(name.endswith(".submit") for _, name in self.walk.functions):
            self.walk.clear()

    def _on_chunk(self, callback: Any, message: Any) -> None:
        if self.walk.functions and not self.done:
            self._run(callback, message)
            self.done = "nodes/outputs" in self.walk.files()
            if not self.done:  # the chunk was refused
                self.walk.clear()
        else:
            callback(message)

    def _run(self, callback: Any, message: Any) -> None:
        sys.setprofile(self.walk.profile)
        try:
            callback(message)
        finally:
            sys.setprofile(None)

    def _on_inference_thread(self, frame: FrameType, event: str, argument: Any) -> None:
        if self._armed and not self.done and self.walk.functions:
            self.walk.profile(frame, event, argument)


def walk() -> Walk:
    """Return what ran between an image and its trajectory."""
    rclpy.init(domain_id=int(os.environ.get("ROS_DOMAIN_ID", 87)))
    tracer = Tracer()
    nodes = (Robot(), ExecutorNode(), PolicyNode())
    spinner = SingleThreadedExecutor()
    for node in nodes:
        spinner.add_node(node)
    robot, executor, policy = nodes
    for node in (executor, policy):
        node.start()
    client = ActionClient(robot, ExecuteInstruction, "execute_instruction")
    began_s, sent = time.monotonic(), False
    while not tracer.done and time.monotonic() < began_s + TOO_LONG_S:
        spinner.spin_once(timeout_sec=0.1)
        if not sent and time.monotonic() > began_s + 3.0 and client.server_is_ready():
            sent = True
            client.send_goal_async(ExecuteInstruction.Goal(instruction=INSTRUCTION))
        if sent and policy.goal is not None and policy.goal.chunks > 1:
            tracer.arm(policy, executor)
    for node in (policy, executor):
        node.close()
    rclpy.try_shutdown()
    if not tracer.done:
        raise SystemExit("no image became a trajectory: see the log")
    return tracer.walk


def as_text(found: Walk, names: bool) -> str:
    """Return the walk as a table: files in the order of the walk, functions of each."""
    rows = []
    for file, count in found.files().items():
        rows.append(f"{count:4d}  {file}")
        rows += [f"        {name}" for of, name in found.functions if names and of == file]
    returns = len(found.entries) - len(found.files())
    total = f"{len(found.files())} files, {len(found.functions)} functions, {returns} returns"
    return "\n".join([*rows, total])


def as_mermaid(found: Walk) -> str:
    """Return the walk as a flow chart: rooms as boxes, arrows from caller to callee."""
    rooms: dict[str, list[str]] = {}
    for file in found.files():
        rooms.setdefault(file.split("/")[0], []).append(file)
    lines = ["flowchart LR"]
    for room, files in rooms.items():
        lines.append(f"  subgraph {room}")
        lines += [f"    {file.replace('/', '_')}[{file.split('/')[-1]}]" for file in files]
        lines.append("  end")
    for (caller, callee), _ in found.steps.items():
        lines.append(f"  {caller.replace('/', '_')} --> {callee.replace('/', '_')}")
    return "\n".join(lines)


def main() -> None:
    """Print the walk."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mermaid", action="store_true", help="as a flow chart")
    parser.add_argument("--names", action="store_true", help="with the functions' names")
    options = parser.parse_args()
    found = walk()
    print(as_mermaid(found) if options.mermaid else as_text(found, options.names))


if __name__ == "__main__":
    main()
