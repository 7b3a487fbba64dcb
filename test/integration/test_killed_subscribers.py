"""Pictures get through however often somebody who was reading them is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from probe import Graph

READER = """
import os
import signal

import rclpy
from sensor_msgs.msg import Image

from dfm_vla_ros.nodes import qos

rclpy.init()
node = rclpy.create_node("reader")
seen = []
for camera in ("third", "left_wrist", "right_wrist"):
    node.create_subscription(Image, f"{camera}_camera/image_raw", seen.append, qos.SENSOR)
while len(seen) < 60:
    rclpy.spin_once(node, timeout_sec=0.1)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_that_a_camera_survives_many_readers_that_are_killed(
    start_graph: Callable[..., Graph],
) -> None:
    graph = start_graph("sim_node")
    graph.until(lambda: graph.measured, "joint states")
    for _ in range(20):
        command = [sys.executable, "-c", READER]
        ended = subprocess.run(command, env=graph.children.environment, timeout=30.0, check=False)
        assert ended.returncode == -signal.SIGKILL
