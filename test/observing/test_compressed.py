"""JPEG and PNG become the same RGB, and what is torn is refused by name."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage

from dfm_vla_ros.observing.cameras import ImageRefused, decompress

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def packed(kind: str, pixels: np.ndarray = PIXELS) -> bytes:
    _, data = cv2.imencode(f".{kind}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def message(data: bytes, kind: str = "jpeg") -> CompressedImage:
    return CompressedImage(format=f"rgb8; {kind} compressed bgr8", data=array("B", data))


def test_that_a_png_is_exact() -> None:
    np.testing.assert_array_equal(decompress(message(packed("png"), "png")), PIXELS)


def test_that_red_stays_red_in_a_jpeg() -> None:
    red = np.zeros((16, 16, 3), dtype=np.uint8)
    red[..., 0] = 200
    found = decompress(message(packed("jpg", red)))
    assert np.abs(found.astype(int) - red).max() <= 3


@given(st.sampled_from(["jpg", "png"]), st.floats(0.01, 0.999))
def test_that_a_torn_image_is_refused_by_name(kind: str, share: float) -> None:
    data = packed(kind)
    with pytest.raises(ImageRefused, match=r"torn or corrupt|neither"):
        decompress(message(data[: int(share * len(data))], kind))


@given(st.integers(8, len(packed("png")) - 1), st.integers(1, 255))
def test_that_one_wrong_byte_in_a_png_is_refused(at: int, change: int) -> None:
    data = bytearray(packed("png"))
    data[at] ^= change
    with pytest.raises(ImageRefused):
        decompress(message(bytes(data), "png"))


@given(st.binary(max_size=200))
def test_that_anything_else_is_refused(data: bytes) -> None:
    for start in (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(ImageRefused, match=r"torn or corrupt|neither jpeg nor png"):
            decompress(message(start + data + b"\xff\xd9"))
