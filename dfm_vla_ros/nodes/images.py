"""RGB arrays to sensor_msgs/Image, and the intrinsics that go with them."""

from __future__ import annotations

import math
from array import array

import numpy as np
from sensor_msgs.msg import CameraInfo, Image

from dfm_vla_ros.observing.images import Rgb


def fill(message: Image, pixels: Rgb) -> None:
    """Put ``pixels`` (H, W, 3) RGB into ``message``; one copy, no check per byte."""
    message.height, message.width = pixels.shape[:2]
    message.encoding, message.step = "rgb8", 3 * message.width
    data = array("B")
    data.frombytes(np.ascontiguousarray(pixels))
    message.data = data


def camera_info(frame_id: str, width: int, height: int, field_of_view_deg: float) -> CameraInfo:
    """Return the intrinsics of a pinhole camera with this vertical field of view."""
    focal = height / 2 / math.tan(math.radians(field_of_view_deg) / 2)
    centre = ((width - 1) / 2, (height - 1) / 2)
    info = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
    info.header.frame_id = frame_id
    info.d = [0.0] * 5
    info.k = [focal, 0.0, centre[0], 0.0, focal, centre[1], 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [focal, 0.0, centre[0], 0.0, 0.0, focal, centre[1], 0.0, 0.0, 0.0, 1.0, 0.0]
    return info
