"""One camera: its newest picture, decoded, of one size, and not frozen."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.observing.sources import TRIGGER, Array, Moment, ObserverSettings, Source
from dfm_vla_ros.robot.joints import JOINT_NAMES

Rgb = NDArray[np.uint8]


class ImageRefused(DfmVlaError):
    """An image of an unknown encoding, or whose bytes do not fill its rows."""


@dataclass(frozen=True)
class Encoding:
    """How the pixels of a raw image lie in its bytes.

    Attributes:
        channels: numbers a pixel; of NV12 and NV21 those of the first plane.
        bits: of a number, 8 or 16.
        code: of ``cv2.cvtColor``, to RGB; None where it is RGB already.
        even: width (and height of two planes) must be even: pixels share their colour.
        planar: half as many rows with the colours follow those with the brightness.
    """

    channels: int
    bits: int = 8
    code: int | None = None
    even: bool = False
    planar: bool = False


_COLOURS = {
    "rgb": (3, None),
    "bgr": (3, cv2.COLOR_BGR2RGB),
    "rgba": (4, cv2.COLOR_RGBA2RGB),
    "bgra": (4, cv2.COLOR_BGRA2RGB),
    "mono": (1, cv2.COLOR_GRAY2RGB),
    # OpenCV names a pattern by the second row's second and third pixel.
    "bayer_rggb": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg": (1, cv2.COLOR_BayerGB2RGB),
}
_UYVY = Encoding(2, code=cv2.COLOR_YUV2RGB_UYVY, even=True)
_YUYV = Encoding(2, code=cv2.COLOR_YUV2RGB_YUY2, even=True)
ENCODINGS: dict[str, Encoding] = {
    **{
        f"{name}{bits}": Encoding(channels, bits, code)
        for bits in (8, 16)
        for name, (channels, code) in _COLOURS.items()
    },
    # They name no colours; cv_bridge writes OpenCV's own pictures, which are BGR, under them.
    "8UC1": Encoding(1, code=cv2.COLOR_GRAY2RGB),
    "8UC3": Encoding(3, code=cv2.COLOR_BGR2RGB),
    "8UC4": Encoding(4, code=cv2.COLOR_BGRA2RGB),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": Encoding(1, code=cv2.COLOR_YUV2RGB_NV12, even=True, planar=True),
    "nv21": Encoding(1, code=cv2.COLOR_YUV2RGB_NV21, even=True, planar=True),
}
"""Under the names of sensor_msgs/image_encodings, and nv12, which drivers use too."""


def encoding_of(message: Any) -> Encoding:
    """Return the encoding of a raw image that is whole.

    Raises:
        ImageRefused: the encoding is unknown, or the size is not that of the bytes.
    """
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise ImageRefused(
            f"encoding is {message.encoding!r}, understood are {', '.join(ENCODINGS)}"
        )
    height, width, step = message.height, message.width, message.step
    row = width * encoding.channels * encoding.bits // 8
    rows = height + height // 2 if encoding.planar else height
    if not height or not width or step < row or len(message.data) != step * rows:
        raise ImageRefused(
            f"{len(message.data)} bytes with step {step} are no {width}x{height} "
            f"{message.encoding} image ({row} bytes a row)"
        )
    if encoding.even and (width % 2 or (encoding.planar and height % 2)):
        raise ImageRefused(
            f"{message.encoding} image is {width}x{height}: its pixels share colours, so the "
            "size must be even"
        )
    return encoding


def to_rgb(message: Any) -> Rgb:
    """Return a raw image as (H, W, 3) uint8 RGB; rows may be padded (``step``).

    Raises:
        ImageRefused: see `encoding_of`.
    """
    encoding, width = encoding_of(message), message.width
    rows = np.frombuffer(message.data, dtype=np.uint8).reshape(-1, message.step)
    pixels = np.ascontiguousarray(rows[:, : width * encoding.channels * encoding.bits // 8])
    if encoding.bits == 16:
        pixels = pixels.view(">u2" if message.is_bigendian else "<u2").astype(np.uint16)
    pixels = pixels.reshape(-1, width, encoding.channels)
    if encoding.code is not None:
        pixels = cv2.cvtColor(pixels, encoding.code)
    return pixels if encoding.bits == 8 else cv2.convertScaleAbs(pixels, alpha=255 / 65535)


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


class FrozenPicture:
    """Compares each picture of one camera with the one before.

    A still robot in front of a still scene repeats its picture too (in a simulation exactly so),
    so a picture counts as frozen only if joints that must change it have moved since it did.
    """

    def __init__(self, timeout_s: float, motion_rad: float, joints: NDArray[np.bool_]) -> None:
        """Complain of a picture older than ``timeout_s`` (0: never) after ``motion_rad``.

        Args:
            timeout_s: how long the same picture may repeat [s].
            motion_rad: what the joints may move meanwhile [rad].
            joints: (D,) True for the joints that must change the picture.
        """
        self._timeout_s, self._motion_rad, self._joints = timeout_s, motion_rad, joints
        self.clear()

    def clear(self) -> None:
        """Forget the picture."""
        self._picture: NDArray[np.uint8] | None = None
        self._since: Moment | None = None
        self._from: Array | None = None
        self._moved_rad = 0.0
        self._repeated = False

    def look(self, picture: NDArray[np.uint8], now: Moment) -> None:
        """Take a picture (H, W, 3) that came ``now``."""
        if self._timeout_s <= 0:
            return
        if self._picture is not None and np.array_equal(self._picture, picture):
            self._repeated = True
            return
        self._picture, self._since, self._repeated = picture, now, False
        self._from, self._moved_rad = None, 0.0

    def move(self, positions: Array) -> None:
        """Take the joints' positions (D,) [rad]."""
        moving = positions[self._joints]
        if self._from is None:
            self._from = moving
        distance_rad = float(np.abs(moving - self._from).max())
        self._moved_rad = max(self._moved_rad, distance_rad)

    def problem(self, now: Moment) -> str:
        """Return what is wrong, or an empty text."""
        if not self._repeated or self._since is None or self._moved_rad <= self._motion_rad:
            return ""
        # A simulation that paused, or a clock that ran ahead, freezes nothing.
        age_s = min(now.ros_s - self._since.ros_s, now.steady_s - self._since.steady_s)
        if age_s <= self._timeout_s:
            return ""
        return (
            f"frozen: the same picture for {age_s:.2f} s while joints moved "
            f"{self._moved_rad:.2f} rad, allowed are {self._timeout_s} s and "
            f"{self._motion_rad} rad"
        )


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

    def __init__(
        self, name: str, settings: ObserverSettings, raw: Callable[[Any], Rgb] = to_rgb
    ) -> None:
        """Know no picture yet; ``raw`` decodes those that are not compressed."""
        transport = TRANSPORTS[settings.transport_of(name)]
        self._decode = raw if transport.decode is to_rgb else transport.decode
        self.topic, self.kind = f"{name}_camera/{transport.suffix}", transport.kind
        self.source: Source[Rgb] = Source(self.topic, settings.bounds[f"{name}_camera"])
        self._frozen = FrozenPicture(
            settings.frozen_timeout_s, settings.frozen_motion_rad, joints_moving(name)
        )
        self._size: tuple[int, int] | None = None

    def take(self, message: Any, stamp_s: float, now: Moment) -> bool:
        """Take an image made at ``stamp_s``; return whether it is usable."""
        try:
            pixels = self._decode(message)
        except ImageRefused as error:
            self.source.refuse(str(error))
            return False
        height, width = pixels.shape[:2]
        self._size = self._size or (height, width)
        if (height, width) != self._size:
            self.source.refuse(
                f"an image of {width}x{height}, those before were {self._size[1]}x"
                f"{self._size[0]}: does a second camera publish? A new goal takes the new size"
            )
            return False
        self.source.put(pixels, stamp_s, now)
        self._frozen.look(pixels, now)
        return True

    def move(self, positions: Array) -> None:
        """Learn where the joints (D,) are: motion must change the picture."""
        self._frozen.move(positions)

    def problem(self, now: Moment) -> str:
        """Return what is wrong with the newest picture, or an empty text."""
        problem = self.source.problem(now)
        if problem:
            return problem
        frozen = self._frozen.problem(now)
        return f"{self.source.name} is {frozen}" if frozen else ""

    def clear(self) -> None:
        """Forget the picture and its size."""
        self.source.clear()
        self._frozen.clear()
        self.forget_size()

    def forget_size(self) -> None:
        """Take an image of any size next; it sets the size of those after it."""
        self._size = None


def joints_moving(camera: str) -> NDArray[np.bool_]:
    """Return (D,) True for the joints whose motion ``camera`` must see: an arm's, or all."""
    arm = camera.removesuffix("_wrist")
    seen = [camera == TRIGGER or name.startswith(f"{arm}_") for name in JOINT_NAMES]
    return np.array(seen) & ~IS_GRIPPER
