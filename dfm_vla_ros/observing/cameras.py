"""One camera: its newest picture, decoded, of one size, and not frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.observing.compressed import decompress
from dfm_vla_ros.observing.frozen import FrozenWatch
from dfm_vla_ros.observing.images import ImageRefused, Rgb, to_rgb
from dfm_vla_ros.observing.settings import TRIGGER, ObserverSettings
from dfm_vla_ros.observing.sources import Array, Moment, Source
from dfm_vla_ros.robot.joints import JOINT_NAMES

IS_GRIPPER = np.array([name.endswith("gripper") for name in JOINT_NAMES])


@dataclass(frozen=True)
class Transport:
    """A way that images come.

    Attributes:
        suffix: of the camera's topic.
        kind: of its messages.
        decode: makes (H, W, 3) RGB of one; raises ImageRefused.
    """

    suffix: str
    kind: str
    decode: Callable[[Any], Rgb]


TRANSPORTS = {
    "raw": Transport("image_raw", "sensor_msgs/msg/Image", to_rgb),
    "compressed": Transport("image_raw/compressed", "sensor_msgs/msg/CompressedImage", decompress),
}


class Camera:
    """Takes the messages of one camera."""

    def __init__(self, name: str, settings: ObserverSettings) -> None:
        """Know no picture yet."""
        self._transport = TRANSPORTS[settings.transport_of(name)]
        self.topic = f"{name}_camera/{self._transport.suffix}"
        self.kind = self._transport.kind
        self.source: Source[Rgb] = Source(self.topic, settings.bounds[f"{name}_camera"])
        self._frozen = FrozenWatch(
            settings.frozen_timeout_s, settings.frozen_motion_rad, joints_moving(name)
        )
        self._size: tuple[int, int] | None = None

    def take(self, message: Any, stamp_s: float, now: Moment) -> bool:
        """Take an image made at ``stamp_s``; return whether it is usable."""
        try:
            pixels = self._transport.decode(message)
            self._check_size(pixels)
        except ImageRefused as error:
            self.source.refuse(str(error))
            return False
        self.source.put(pixels, stamp_s, now)
        self._frozen.look(pixels, now)
        return True

    def move(self, positions: Array) -> None:
        """Learn where the joints (D,) are: motion must change the picture."""
        self._frozen.move(positions)

    def complaint(self, now: Moment) -> str:
        """Return what is wrong with the newest picture, or an empty text."""
        complaint = self.source.complaint(now)
        if complaint:
            return complaint
        frozen = self._frozen.complaint(now)
        return f"{self.source.name} is {frozen}" if frozen else ""

    def clear(self) -> None:
        """Forget the picture and its size."""
        self.source.clear()
        self._frozen.clear()
        self.forget_size()

    def forget_size(self) -> None:
        """Take an image of any size next; it sets the size of those after it."""
        self._size = None

    def _check_size(self, pixels: Rgb) -> None:
        """Refuse an image of another size than the first: a second camera, or another mode."""
        height, width = pixels.shape[:2]
        if self._size is None:
            self._size = (height, width)
        if (height, width) != self._size:
            raise ImageRefused(
                f"an image of {width}x{height}, those before were {self._size[1]}x"
                f"{self._size[0]}: does a second camera publish? A new goal takes the new size"
            )


def joints_moving(camera: str) -> NDArray[np.bool_]:
    """Return (D,) True for the joints whose motion ``camera`` must see: an arm's, or all."""
    arm = camera.removesuffix("_wrist")
    seen = [camera == TRIGGER or name.startswith(f"{arm}_") for name in JOINT_NAMES]
    return np.array(seen) & ~IS_GRIPPER
