"""Messages of a bag, without ROS, become the observation that the live node would make."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from dfm_vla_ros.observing.observer import Observer
from dfm_vla_ros.observing.sources import Moment, ObserverSettings, TimeBase
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES

HEIGHT, WIDTH = 4, 6


def header(seconds: float) -> SimpleNamespace:
    sec, nanosec = divmod(round(seconds * 1e9), 10**9)
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec))


def image(seconds: float, value: int) -> SimpleNamespace:
    pixels = np.full((HEIGHT, WIDTH, 3), value, np.uint8)
    return SimpleNamespace(
        header=header(seconds),
        height=HEIGHT,
        width=WIDTH,
        encoding="rgb8",
        step=3 * WIDTH,
        data=pixels.reshape(-1),
    )


def joints(seconds: float, value: float, names: tuple[str, ...] = JOINT_NAMES) -> SimpleNamespace:
    positions = np.full(len(names), value)
    return SimpleNamespace(
        header=header(seconds), name=list(names), position=positions, velocity=0 * positions
    )


class Fed:
    """An observer that hears of each message when it is made."""

    def __init__(self, settings: ObserverSettings | None = None) -> None:
        self.time = TimeBase()
        self.observer = Observer(self.time, settings)

    def feed(self, topic: str, message: SimpleNamespace) -> bool:
        seconds = self.time.seconds(message.header.stamp)
        return self.observer.feed(topic, message, Moment(seconds, seconds))

    def all(self, seconds: float, value: int = 7) -> None:
        for topic in ("joint_states", "commanded_joint_states"):
            self.feed(topic, joints(seconds, value / 100))
        for camera in reversed(CAMERAS):
            self.feed(f"{camera}_camera/image_raw", image(seconds, value))


def test_that_only_a_usable_image_of_the_third_view_calls_for_a_look() -> None:
    fed = Fed()
    assert fed.feed("third_camera/image_raw", image(10.0, 1))
    assert not fed.feed("left_wrist_camera/image_raw", image(10.0, 1))
    assert not fed.feed("joint_states", joints(10.0, 0.0))
    broken = image(10.05, 1)
    broken.encoding = "32FC1"
    assert not fed.feed("third_camera/image_raw", broken)


def test_that_joints_are_those_of_the_moment_of_the_third_view() -> None:
    fed = Fed()
    fed.all(10.0)
    for topic in ("joint_states", "commanded_joint_states"):
        fed.feed(topic, joints(10.04, 0.4))
        fed.feed(topic, joints(10.06, 0.6))
    fed.feed("third_camera/image_raw", image(10.05, 9))
    assert fed.observer.problem(Moment(0.05, 0.05)) == ""
    seen = fed.observer.observation("go")
    np.testing.assert_allclose(seen.positions, 0.5)
    np.testing.assert_allclose(seen.commanded, 0.5)
    assert [int(seen.images[camera][0, 0, 0]) for camera in CAMERAS] == [9, 7, 7]


def test_that_a_source_that_is_missing_is_named() -> None:
    fed = Fed()
    fed.feed("third_camera/image_raw", image(10.0, 1))
    said = fed.observer.problem(Moment(0.0, 0.0))
    assert "third_camera" not in said
    assert "left_wrist_camera/image_raw: no message yet" in said
    assert "commanded_joint_states: no message yet" in said


def test_that_a_compressed_image_is_the_same_picture() -> None:
    fed = Fed(ObserverSettings(transport="compressed"))
    fed.feed("joint_states", joints(10.0, 0.1))
    fed.feed("commanded_joint_states", joints(10.0, 0.1))
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    _, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    for camera in reversed(CAMERAS):
        packed = SimpleNamespace(header=header(10.0), format="png", data=data)
        fed.feed(f"{camera}_camera/image_raw/compressed", packed)
    np.testing.assert_array_equal(fed.observer.observation("go").images["third"], pixels)


def test_that_two_arms_of_a_driver_are_one_robot() -> None:
    driver = (*(f"joint{i}" for i in range(1, 7)), "gripper")
    names = {"arm_joint_states": True, "arm_joint_names": driver, "gripper_scale": 2.0}
    fed = Fed(ObserverSettings(joint_states=names))
    assert "joint_states" not in fed.observer.topics
    fed.feed("left_arm/joint_states", joints(10.0, 0.02, driver))
    assert "joint_states: no message yet" in fed.observer.problem(Moment(0.0, 0.0))
    fed.feed("right_arm/joint_states", joints(10.0, 0.04, driver))
    positions = fed.observer.sources["joint_states"].value
    np.testing.assert_allclose(positions[[0, 6, 7, 13]], [0.02, 0.01, 0.04, 0.02])


def test_that_a_reset_forgets_what_was_stamped_before_it() -> None:
    fed = Fed()
    fed.all(10.0)

    def status(seconds: float, seed: int, elapsed: float) -> SimpleNamespace:
        return SimpleNamespace(
            header=header(seconds), task="t", seed=seed, elapsed=elapsed, success=False, progress=0
        )

    fed.feed("task_status", status(10.0, 1, 0.0))
    assert fed.observer.problem(Moment(0.0, 0.0)) == ""
    fed.feed("task_status", status(10.2, 2, 0.0))
    assert not fed.feed("third_camera/image_raw", image(10.1, 1))
    assert "third_camera/image_raw: no message yet" in fed.observer.problem(Moment(0.2, 0.2))
    assert fed.feed("third_camera/image_raw", image(10.2, 1))


def test_that_an_image_of_another_size_is_refused() -> None:
    fed = Fed()
    fed.all(10.0)
    other = image(10.05, 1)
    other.height, other.width, other.step = WIDTH, HEIGHT, 3 * HEIGHT
    assert not fed.feed("third_camera/image_raw", other)
    assert "an image of 4x6, those before were 6x4" in fed.observer.problem(Moment(0.05, 0.05))
    fed.observer.forget_sizes()
    assert fed.feed("third_camera/image_raw", other)


@pytest.mark.parametrize("module", ["rclpy", "sensor_msgs", "torch"])
def test_that_nothing_of_ros_or_torch_is_needed(module: str) -> None:
    code = f"import sys, dfm_vla_ros.observing.observer; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
