"""Pictures become messages, and intrinsics what the twin's cameras see."""

from __future__ import annotations

import numpy as np
import pytest
from sensor_msgs.msg import Image

from dfm_vla_ros.nodes.inputs import camera_info, fill
from dfm_vla_ros.observing.cameras import to_rgb


def test_that_an_image_survives_the_way_through_a_message() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    message = Image()
    fill(message, pixels)
    np.testing.assert_array_equal(to_rgb(message), pixels)


def test_that_intrinsics_see_the_field_of_view() -> None:
    info = camera_info("third_camera_optical_frame", 640, 480, 90.0)
    assert info.k[0] == pytest.approx(240.0)
    assert (info.k[2], info.k[5]) == (319.5, 239.5)
