"""Every encoding becomes the same RGB; test/nodes/test_images.py compares with cv_bridge."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import Image

from dfm_vla_ros.observing.cameras import ENCODINGS, to_rgb

RED = np.zeros((4, 6, 3), dtype=np.uint8)
RED[..., 0] = 200


def image(encoding: str, pixels: np.ndarray, padding: int = 0) -> Image:
    """Return a message of rows (rows, ...) of any integers."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    message = Image(height=RED.shape[0], width=RED.shape[1], encoding=encoding)
    message.step, message.data = rows.shape[1], array("B", rows.tobytes())
    return message


def red_in(encoding: str) -> np.ndarray:
    """Return the rows of a red picture."""
    if encoding.startswith(("rgb", "bgr", "8UC")):
        alpha = np.full((*RED.shape[:2], 1), 255, np.uint8)
        blue_first = not encoding.startswith("rgb")
        pixels = RED[..., ::-1] if blue_first else RED
        if ENCODINGS[encoding].channels == 4:
            pixels = np.concatenate([pixels, alpha], axis=2)
        return pixels.astype(np.uint16) * 257 if encoding.endswith("16") else pixels
    if encoding.startswith("bayer"):
        pattern = encoding.removeprefix("bayer_")[:4]
        cell = np.array([200 * (colour == "r") for colour in pattern], np.uint16).reshape(2, 2)
        pixels = np.tile(cell, (2, 3))
        return pixels * 257 if encoding.endswith("16") else pixels.astype(np.uint8)
    planes = cv2.cvtColor(RED, cv2.COLOR_RGB2YUV_I420)
    y, u, v = planes[0, 0], planes[4, 0], planes[5, 0]
    if encoding.startswith("nv"):
        pair = (u, v) if encoding == "nv12" else (v, u)
        return np.vstack([planes[:4], np.tile(pair, (2, 3)).astype(np.uint8)])
    pair = (y, u, y, v) if "yuy" in encoding else (u, y, v, y)
    return np.tile(np.array(pair, np.uint8), (4, 3))


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("encoding", [e for e in ENCODINGS if e[:4] not in ("mono", "8UC1")])
def test_that_red_stays_red(encoding: str, padding: int) -> None:
    found = to_rgb(image(encoding, red_in(encoding), padding))
    exact = encoding.startswith(("rgb", "bgr", "8UC"))
    # Only a Bayer picture's inside has neighbours all around.
    inside = found[1:-1, 1:-1] if encoding.startswith("bayer") else found
    wanted = np.broadcast_to(RED[0, 0], inside.shape)
    np.testing.assert_allclose(inside, wanted, atol=not exact and 3)


@pytest.mark.parametrize(("encoding", "unit"), [("mono8", 1), ("8UC1", 1), ("mono16", 257)])
def test_that_grey_becomes_three_equal_channels(encoding: str, unit: int) -> None:
    grey = np.arange(24).reshape(4, 6)
    kind = np.uint16 if unit > 1 else np.uint8
    rgb = to_rgb(image(encoding, (grey * unit).astype(kind)))
    np.testing.assert_array_equal(rgb, np.repeat(grey[..., None], 3, axis=2))
