"""UDP alone: processes hear each other on this machine and map no shared memory of Fast DDS."""

from __future__ import annotations

import os
import subprocess
import sys

from dfm_vla_ros.nodes.qos import CHOICES, local, own_domain

PEER = """
import os, sys
from pathlib import Path
from dfm_vla_ros.nodes import qos

qos.only_udp()
os.environ.update(qos.local())
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
rclpy.init()
node = rclpy.create_node(sys.argv[1])
heard = []
node.create_subscription(String, sys.argv[2], lambda message: heard.append(message.data), latched)
publisher = node.create_publisher(String, sys.argv[1], latched)
publisher.publish(String(data="I am " + sys.argv[1]))
while not heard:
    rclpy.spin_once(node, timeout_sec=0.1)
print(heard[0], "fastrtps_port" in Path("/proc/self/maps").read_text(), flush=True)
sys.stdin.read()
"""


def test_that_processes_hear_each_other_over_udp_without_shared_memory() -> None:
    with own_domain() as domain:
        environment = {k: v for k, v in os.environ.items() if k not in CHOICES}
        environment["ROS_DOMAIN_ID"] = str(domain)
        peers = [
            subprocess.Popen(
                [sys.executable, "-c", PEER, *names],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for names in (("left", "right"), ("right", "left"))
        ]
        said = [peer.stdout.readline() for peer in peers]
        for peer in peers:
            peer.communicate()
    assert said == ["I am right False\n", "I am left False\n"]


def test_that_a_graph_stays_on_this_machine_by_default() -> None:
    assert local()["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
