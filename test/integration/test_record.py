"""``dfm-vla record`` beside a robot: what it writes, what it misses, how it may die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from dfm_vla_ros.bags.conversion import Converter
from dfm_vla_ros.bags.episodes import EpisodeSettings
from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.storage import LATCHED, typestore
from dfm_vla_ros.bags.synthetic import Run
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.inputs import message_type
from dfm_vla_ros.nodes.qos import local

BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


class Robot:
    """Plays a synthetic run in real time, again and again, from a thread."""

    def __init__(
        self, domain: int, wants: Callable[[str], bool] = lambda topic: True, side_px: int = 16
    ) -> None:
        self.context = rclpy.Context()
        rclpy.init(
            context=self.context,
            domain_id=domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self.node = rclpy.create_node("robot", context=self.context)
        store = typestore()
        run = Run(seconds=2.0, episode_s=60.0, joints_hz=50.0, side_px=side_px)
        self.messages = [
            (topic, received_ns, kind, message)
            for topic, kind, received_ns, message in run.messages()
            if wants(topic)
        ]
        self.publishers = {
            topic: self.node.create_publisher(message_type(kind), topic, self.profile(topic))
            for topic, _, kind, _ in self.messages
        }
        self.store, self.ended = store, threading.Event()
        self.thread = threading.Thread(target=self.play)
        self.thread.start()

    def profile(self, topic: str) -> QoSProfile:
        """Cameras speak as many drivers do: best effort."""
        if topic[1:] in LATCHED:
            return qos.STATUS
        return BEST_EFFORT if "camera" in topic else qos.SENSOR_SOURCE

    def play(self) -> None:
        while not self.ended.is_set():
            began_s, first_ns = time.monotonic(), self.messages[0][1]
            for topic, received_ns, kind, message in self.messages:
                time.sleep(max(0.0, began_s + (received_ns - first_ns) * 1e-9 - time.monotonic()))
                if self.ended.is_set():
                    return
                stamp = message.header.stamp
                stamp.sec, stamp.nanosec = divmod(time.time_ns(), 10**9)
                self.publishers[topic].publish(bytes(self.store.serialize_cdr(message, kind)))

    def close(self) -> None:
        self.ended.set()
        self.thread.join()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def start(domain: int) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a recorder; what is left of it ends with the test."""
    processes: list[subprocess.Popen] = []

    def begin(out: Path, *options: str) -> subprocess.Popen:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "dfm_vla_ros.cli", "record", "--out", str(out), *options],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **local(), "ROS_DOMAIN_ID": str(domain)},
            )
        )
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def robot(domain: int) -> Iterator[Robot]:
    made = Robot(domain)
    yield made
    made.close()


def until_size(recorder: subprocess.Popen, path: Path, size: int) -> None:
    """Wait until the bag's file has so many bytes."""
    deadline = time.monotonic() + 60.0
    while not path.exists() or path.stat().st_size < size:
        assert recorder.poll() is None, recorder.stdout.read()
        assert time.monotonic() < deadline, f"{path} does not grow to {size} bytes"
        time.sleep(0.05)


def test_that_a_run_is_recorded_and_can_be_converted(
    robot: Robot, start: Callable[..., subprocess.Popen], tmp_path: Path
) -> None:
    recorder = start(tmp_path / "bag", "--duration", "6")
    output, _ = recorder.communicate(timeout=90)
    assert recorder.returncode == 0, output
    assert "recording to" in output
    assert "messages," in output
    with Bag(tmp_path / "bag") as bag:
        counts: dict[str, int] = {}
        for message in bag.messages():
            counts[message.topic] = counts.get(message.topic, 0) + 1
        assert len(bag.faults) == 0
    assert counts["/third_camera/image_raw"] > 40, "though it is published best effort"
    assert counts["/joint_states"] > 100
    assert counts["/task_status"] > 20
    settings = EpisodeSettings(instruction="go", split="whole")
    with Converter(tmp_path / "data", "image", settings=settings, say=str) as converter:
        assert converter.convert(tmp_path / "bag").frames > 20


def test_that_ctrl_c_ends_it_cleanly_and_silence_is_named(
    domain: int, start: Callable[..., subprocess.Popen], tmp_path: Path
) -> None:
    robot = Robot(domain, lambda topic: "left_wrist" not in topic)
    try:
        recorder = start(tmp_path / "bag")
        until_size(recorder, tmp_path / "bag" / "bag.mcap", 20_000)
        time.sleep(2.5)
        recorder.send_signal(signal.SIGINT)
        output, _ = recorder.communicate(timeout=30)
    finally:
        robot.close()
    assert recorder.returncode == 1
    assert "silent: left_wrist camera (left_wrist_camera/image_raw)" in output
    assert "never heard, and convert needs it: left_wrist camera" in output
    assert (tmp_path / "bag" / "metadata.yaml").exists()


def test_that_a_recorder_that_is_killed_leaves_all_but_the_last_moments(
    robot: Robot, start: Callable[..., subprocess.Popen], tmp_path: Path
) -> None:
    recorder = start(tmp_path / "bag")
    until_size(recorder, tmp_path / "bag" / "bag.mcap", 20_000)
    time.sleep(3.0)
    recorder.kill()
    killed_ns = time.time_ns()
    recorder.wait()
    with Bag(tmp_path / "bag") as bag:
        last_ns = max(message.received_ns for message in bag.messages(["/joint_states"]))
        faults = " ".join(fault.text() for fault in bag.faults)
    assert killed_ns - last_ns < 3e9
    assert "metadata.yaml: is missing: was the recorder killed?" in faults
    assert "bag.mcap: cut off at byte" in faults


def test_that_only_the_topics_that_are_named_are_recorded(
    robot: Robot, start: Callable[..., subprocess.Popen], tmp_path: Path
) -> None:
    recorder = start(tmp_path / "bag", "--topics", "joint_states", "--duration", "3")
    output, _ = recorder.communicate(timeout=60)
    assert recorder.returncode == 0, output
    with Bag(tmp_path / "bag") as bag:
        assert list(bag.topics) == ["/joint_states"]


def test_that_a_folder_that_exists_is_kept(
    start: Callable[..., subprocess.Popen], tmp_path: Path
) -> None:
    output, _ = (recorder := start(tmp_path)).communicate(timeout=60)
    assert recorder.returncode == 1
    assert "name one that does not exist yet" in output
