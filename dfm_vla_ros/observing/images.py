"""sensor_msgs/Image to RGB arrays, with every encoding named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError

Rgb = NDArray[np.uint8]


class ImageRefused(DfmVlaError):
    """An image of an unknown encoding, or whose bytes do not fill its rows."""


def _as_is(pixels: Rgb) -> Rgb:
    return pixels


_CONVERSIONS: dict[str, tuple[int, Callable[[Rgb], Rgb]]] = {
    "rgb8": (3, _as_is),
    "bgr8": (3, lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)),
    "mono8": (1, lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)),
    "rgba8": (4, lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB)),
    "bgra8": (4, lambda pixels: cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)),
}
"""Encoding -> bytes per pixel, and how to make RGB of it."""


def to_rgb(message: Any) -> Rgb:
    """Return the image as (H, W, 3) uint8 RGB; rows may be padded (``step``).

    Raises:
        ImageRefused: unknown encoding, or too few bytes.
    """
    if message.encoding not in _CONVERSIONS:
        raise ImageRefused(
            f"encoding is {message.encoding!r}, understood are {', '.join(_CONVERSIONS)}"
        )
    channels, convert = _CONVERSIONS[message.encoding]
    height, width, step = message.height, message.width, message.step
    row = width * channels
    if not height or not width or step < row or len(message.data) != step * height:
        raise ImageRefused(
            f"{len(message.data)} bytes with step {step} are no {width}x{height} "
            f"{message.encoding} image ({row} bytes a row)"
        )
    rows = np.frombuffer(message.data, dtype=np.uint8).reshape(height, step)
    pixels = rows[:, :row].reshape(height, width, channels)
    return convert(pixels if pixels.flags.c_contiguous else np.ascontiguousarray(pixels))
