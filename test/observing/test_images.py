"""Every encoding becomes the same RGB, and what is no image is refused."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from sensor_msgs.msg import Image

from dfm_vla_ros.observing.cameras import ImageRefused, to_rgb

RED = np.zeros((2, 3, 3), dtype=np.uint8)
RED[..., 0] = 200


def image(encoding: str, pixels: np.ndarray, padding: int = 0) -> Image:
    height, width = pixels.shape[:2]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=99)
    message = Image(height=height, width=width, encoding=encoding, step=rows.shape[1])
    message.data = array("B", rows.tobytes())
    return message


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_that_red_stays_red(encoding: str, padding: int) -> None:
    pixels = RED[..., ::-1] if encoding.startswith("bgr") else RED
    if encoding.endswith("a8"):
        pixels = np.concatenate([pixels, np.full((2, 3, 1), 255, np.uint8)], axis=2)
    np.testing.assert_array_equal(to_rgb(image(encoding, pixels, padding)), RED)


def test_that_grey_becomes_three_equal_channels() -> None:
    grey = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    rgb = to_rgb(image("mono8", grey[..., None]))
    np.testing.assert_array_equal(rgb, np.repeat(grey[..., None], 3, axis=2))


def test_that_an_unknown_encoding_is_refused_by_name() -> None:
    with pytest.raises(ImageRefused, match="encoding is 'yuv422'"):
        to_rgb(image("yuv422", RED))


def test_that_a_torn_image_is_refused() -> None:
    message = image("rgb8", RED)
    message.data = message.data[:-1]
    with pytest.raises(ImageRefused, match="17 bytes with step 9 are no 3x2 rgb8 image"):
        to_rgb(message)
