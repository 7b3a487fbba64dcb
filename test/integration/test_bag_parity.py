"""What a bag becomes is what the policy node's own eyes see of the same messages over DDS."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

from dfm_vla_ros.bags.conversion import Converter
from dfm_vla_ros.bags.observations import CLOCK, Playback
from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.storage import TOPICS, typestore
from dfm_vla_ros.bags.synthetic import Run, write_messages
from dfm_vla_ros.bags.topics import TopicChoice, find_topics
from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import StampBase
from dfm_vla_ros.nodes.inputs import LiveObserver, message_type
from dfm_vla_ros.nodes.policy_parameters import PARAMETERS, observer_settings
from dfm_vla_ros.observing.cameras import TRANSPORTS
from dfm_vla_ros.observing.sources import ObserverSettings
from dfm_vla_ros.policy.types import Observation


class Live:
    """The policy node's LiveObserver in a node, and one that publishes a bag's messages to it."""

    def __init__(self, domain: int, transport: str) -> None:
        self.context = rclpy.Context()
        rclpy.init(
            context=self.context,
            domain_id=domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        simulated = [Parameter("use_sim_time", value=True)]
        self.node = rclpy.create_node("eyes", context=self.context, parameter_overrides=simulated)
        self.bag = rclpy.create_node("bag", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        values = {parameter.name: parameter.default for parameter in PARAMETERS}
        values["image_transport"] = transport
        self.seen: dict[int, Observation] = {}
        self.complaints: dict[int, str] = {}
        self.now_ns = 0
        self.fed = 0
        self.time = StampBase()
        self.watch = LiveObserver(self.node, self.time, observer_settings(values), self.look)
        self.count_messages()
        self.publishers = {
            topic: self.bag.create_publisher(message_type(kind), topic, self.profile(topic))
            for topic, kind in self.watch.topics.items()
        }
        self.until(
            lambda: all(
                publisher.get_subscription_count() for publisher in self.publishers.values()
            )
        )

    def profile(self, topic: str) -> object:
        return qos.STATUS if topic == "task_status" else qos.SENSOR_SOURCE

    def count_messages(self) -> None:
        feed = self.watch.feed

        def counted(*arguments: object) -> bool:
            self.fed += 1
            return feed(*arguments)

        self.watch.feed = counted

    def look(self) -> None:
        complaint = self.watch.problem(self.watch.now())
        self.complaints[self.now_ns] = complaint
        if not complaint:
            self.seen[self.now_ns] = self.watch.observation("")

    def until(self, condition: object) -> None:
        for _ in range(2000):
            if condition():
                return
            self.executor.spin_once(timeout_sec=0.02)
        pytest.fail("the message did not arrive")

    def publish(self, topic: str, serialized: bytes, stamp_ns: int) -> None:
        """Let time be that of the message, send it, wait until it has been taken."""
        self.now_ns = stamp_ns
        sec, nanosec = divmod(stamp_ns, 10**9)
        now = rclpy.time.Time.from_msg(Time(sec=sec, nanosec=nanosec))
        self.node.get_clock().set_ros_time_override(now)
        before = self.fed
        self.publishers[topic].publish(serialized)
        self.until(lambda: self.fed > before)

    def close(self) -> None:
        self.executor.shutdown()
        self.bag.destroy_node()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def live_frames(path: Path, domain: int, transport: str) -> Live:
    """Send a bag's messages, in the order in which they were made, to the real LiveObserver."""
    live, store = Live(domain, transport), typestore()
    kinds = {**TOPICS, **{f"/{name}": kind for name, kind in live.watch.topics.items()}}
    with Bag(path) as bag:
        topics = find_topics(bag, TopicChoice(), ObserverSettings())
        for step in Playback(bag, topics):
            # Both count seconds from one moment: of another the last bit would differ.
            live.time.from_nanoseconds(step.stamp_ns)
            if step.name == CLOCK or step.name not in live.watch.topics:
                continue
            kind = kinds[f"/{step.name}"]
            live.publish(step.name, bytes(store.serialize_cdr(step.value, kind)), step.stamp_ns)
    live.close()
    return live


def check_parity(path: Path, out: Path, domain: int, transport: str) -> None:
    with Converter(out, "video", say=str) as converter:
        account = converter.convert(path)
    assert account.frames > 10
    live = live_frames(path, domain, transport)
    data = Dataset.open(out)
    compared = 0
    for i, key in enumerate(data.keys):
        episode = data.episode(i)
        first_ns = int(key.rpartition("@")[2].partition("-")[0])
        stamps = sorted(stamp for stamp in live.seen if stamp >= first_ns)
        for frame in range(len(episode)):
            due_ns = first_ns + frame * 100_000_000
            stamp = min(stamps, key=lambda found: abs(found - due_ns))
            seen = live.seen[stamp]
            np.testing.assert_array_equal(episode.positions[frame], seen.positions)
            np.testing.assert_array_equal(episode.commanded[frame], seen.commanded)
            for camera, image in seen.images.items():
                np.testing.assert_array_equal(episode.images[camera][frame], image)
            compared += 1
    assert compared == account.frames


@pytest.mark.parametrize("transport", list(TRANSPORTS))
def test_that_frames_of_a_bag_are_those_of_the_live_node(
    tmp_path: Path, domain: int, transport: str
) -> None:
    run = Run(seconds=4.0, episode_s=4.0, side_px=32, packed=transport == "compressed")
    path = write_messages(tmp_path / "run", run.messages())
    check_parity(path, tmp_path / "data", domain, transport)


@pytest.mark.slow
def test_that_frames_of_a_demo_are_those_of_the_live_node(
    tmp_path: Path, domain: int, checkpoint: Path
) -> None:
    import subprocess
    import sys

    words = ["demo", "--checkpoint", str(checkpoint), "--out", str(tmp_path), "--timeout", "4"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
    subprocess.run(
        [sys.executable, "-m", "dfm_vla_ros.cli", *words],
        check=False,
        env=environment,
        timeout=150,
        capture_output=True,
    )
    check_parity(tmp_path / "bag", tmp_path / "data", domain, "raw")
