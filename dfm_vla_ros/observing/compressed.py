"""sensor_msgs/CompressedImage to RGB arrays: JPEG and PNG, torn ones refused."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np

from dfm_vla_ros.observing.images import ImageRefused, Rgb

PNG = b"\x89PNG\r\n\x1a\n"
JPEG, JPEG_END = b"\xff\xd8", b"\xff\xd9"
FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def decompress(message: Any) -> Rgb:
    """Return the image as (H, W, 3) uint8 RGB.

    A JPEG whose inside is damaged while both ends are there may pass: the format has no checksum.

    Raises:
        ImageRefused: neither JPEG nor PNG, torn, or not to be decoded.
    """
    kind, data = message.format, bytes(message.data)
    if data.startswith(JPEG):
        whole, found = data.rstrip(b"\0").endswith(JPEG_END), "jpeg"
    elif data.startswith(PNG):
        whole, found = _is_whole_png(data), "png"
    else:
        raise ImageRefused(f"{len(data)} bytes of format {kind!r} are neither jpeg nor png")
    pixels = _decode(data) if whole else None
    if pixels is None:
        raise ImageRefused(f"{len(data)} bytes of format {kind!r} are a torn or corrupt {found}")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _decode(data: bytes) -> Rgb | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS)
    except cv2.error:  # a size that OpenCV does not allow
        return None


def _is_whole_png(data: bytes) -> bool:
    """Return whether every chunk of a PNG has its checksum, up to the last."""
    at = len(PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            return False
        (checksum,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(data[at + 4 : end]) != checksum:
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end + 4
    return False
