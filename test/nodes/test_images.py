"""Images from messages: live by cv_bridge, offline without; the same to the bit."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Image

from dfm_vla_ros.nodes import messages
from dfm_vla_ros.nodes.messages import camera_info, fill
from dfm_vla_ros.observing import cameras
from dfm_vla_ros.observing.cameras import ENCODINGS, ImageRefused

HEIGHT, WIDTH = 6, 8


def noise(encoding: str, padding: int = 0, big_endian: bool = False) -> Image:
    """Return a picture of random bytes."""
    found = ENCODINGS[encoding]
    rows = HEIGHT * 3 // 2 if found.planar else HEIGHT
    step = WIDTH * found.channels * found.bits // 8 + padding
    data = np.random.default_rng(0).integers(0, 256, rows * step, dtype=np.uint8)
    message = Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=step)
    message.is_bigendian, message.data = int(big_endian), array("B", data.tobytes())
    return message


def recorded(message: Image) -> object:
    """Return the message as a bag's reader gives it."""
    store = get_typestore(Stores.ROS2_JAZZY)
    header = store.types["std_msgs/msg/Header"](
        store.types["builtin_interfaces/msg/Time"](0, 0), ""
    )
    fields = ("height", "width", "encoding", "is_bigendian", "step")
    values = [getattr(message, name) for name in fields]
    data = np.frombuffer(message.data, np.uint8)
    return store.types["sensor_msgs/msg/Image"](header, *values, data)


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_that_an_image_is_the_same_live_and_offline(
    encoding: str, big_endian: bool, padding: int
) -> None:
    message = noise(encoding, padding, big_endian)
    live, offline = messages.to_rgb(message), cameras.to_rgb(recorded(message))
    assert live.shape == (HEIGHT, WIDTH, 3)
    assert live.dtype == np.uint8
    np.testing.assert_array_equal(live, offline)


@pytest.mark.parametrize("decode", [messages.to_rgb, cameras.to_rgb])
def test_that_what_is_no_image_is_refused_by_name(decode: object) -> None:
    unknown, torn, odd = noise("rgb8"), noise("rgb8"), noise("nv12")
    unknown.encoding, torn.data, odd.width = "32FC1", torn.data[:-1], 7
    for message, text in (
        (unknown, "encoding is '32FC1', understood are rgb8"),
        (torn, "143 bytes with step 24 are no 8x6 rgb8 image"),
        (odd, "nv12 image is 7x6.*must be even"),
    ):
        with pytest.raises(ImageRefused, match=text):
            decode(message)


def test_that_an_image_survives_the_way_through_a_message() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    message = Image()
    fill(message, pixels)
    np.testing.assert_array_equal(messages.to_rgb(message), pixels)


def test_that_intrinsics_see_the_field_of_view() -> None:
    info = camera_info("third_camera_optical_frame", 640, 480, 90.0)
    assert info.k[0] == pytest.approx(240.0)
    assert (info.k[2], info.k[5]) == (319.5, 239.5)
