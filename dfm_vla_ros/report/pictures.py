"""Pictures and films as files in memory, small enough to lie inside a page."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError

Rgb = NDArray[np.uint8]

PICTURE_PX = 160
"""Longest side of a picture."""
VIEW_PX = 128
"""Side of one camera's square in a film."""
JPEG_QUALITY = 85
KEY_FRAMES = 20
"""Frames between those that a player can jump to."""


class PictureError(DfmVlaError):
    """An image that cannot be shown."""


@dataclass(frozen=True)
class Picture:
    """An image file.

    Attributes:
        data: content of the file.
        kind: its media type.
        width, height: [px].
    """

    data: bytes
    kind: str
    width: int
    height: int

    @classmethod
    def of(cls, image: Rgb, longest_px: int = PICTURE_PX) -> Picture:
        """Return a JPEG of an RGB image (H, W, 3), made smaller if its longest side is longer.

        Raises:
            PictureError: ``image`` is not (H, W, 3) uint8.
        """
        checked = _checked(image)
        scale = longest_px / max(checked.shape[:2])
        if scale < 1:
            size = (round(checked.shape[1] * scale), round(checked.shape[0] * scale))
            checked = cv2.resize(checked, size, interpolation=cv2.INTER_AREA)
        bgr = cv2.cvtColor(checked, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return cls(data.tobytes(), "image/jpeg", checked.shape[1], checked.shape[0])


@dataclass(frozen=True)
class Film:
    """A video file.

    Attributes:
        data: content of the file.
        kind: its media type.
        caption: what it shows.
        start_s: time of its first frame in the run [s].
        duration_s: its length [s].
        width, height: [px].
    """

    data: bytes
    kind: str
    caption: str
    start_s: float
    duration_s: float
    width: int
    height: int


class FilmEncoder:
    """Encodes frames as they come: all cameras side by side, H.264."""

    def __init__(self, rate_hz: float, caption: str = "", start_s: float = 0.0) -> None:
        """Begin a film of ``rate_hz`` frames a second whose first frame is at ``start_s``."""
        self._rate, self._caption, self._start_s = rate_hz, caption, start_s
        self._file = io.BytesIO()
        self._container = av.open(self._file, "w", format="mp4")
        self._stream: av.VideoStream | None = None
        self._frames = 0

    def add(self, images: Mapping[str, Rgb]) -> None:
        """Add a frame: camera -> RGB image (H, W, 3), the same cameras each time.

        Raises:
            PictureError: an image is malformed, or there is none.
        """
        row = _row(images)
        stream = self._stream or self._begin(row)
        if row.shape[:2] != (stream.height, stream.width):
            raise PictureError(
                f"a frame of {len(images)} cameras in a film that began with another number: "
                "give the same cameras each time"
            )
        self._container.mux(stream.encode(av.VideoFrame.from_ndarray(row, format="rgb24")))
        self._frames += 1

    def finish(self) -> Film | None:
        """Return the film, None if it has no frame; nothing can be added afterwards."""
        if self._stream is None:
            self._container.close()
            return None
        self._container.mux(self._stream.encode())
        self._container.close()
        size = (self._stream.width, self._stream.height)
        length = self._frames / self._rate
        data = self._file.getvalue()
        return Film(data, "video/mp4", self._caption, self._start_s, length, *size)

    def _begin(self, row: Rgb) -> av.VideoStream:
        rate = Fraction(self._rate).limit_denominator(1000)
        stream = self._container.add_stream("libx264", rate=rate)
        stream.height, stream.width = row.shape[:2]
        stream.pix_fmt, stream.gop_size = "yuv420p", KEY_FRAMES
        stream.options = {"crf": "24", "preset": "veryfast", "threads": "1"}
        self._stream = stream
        return stream


def _row(images: Mapping[str, Rgb]) -> Rgb:
    if not images:
        raise PictureError("a frame without images: give at least one camera")
    return np.hstack([_square(_checked(image)) for image in images.values()])


def _square(image: Rgb) -> Rgb:
    """Return the image scaled to fit a black square of ``VIEW_PX``."""
    height, width = image.shape[:2]
    scale = VIEW_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.zeros((VIEW_PX, VIEW_PX, 3), dtype=np.uint8)
    top, left = (VIEW_PX - size[1]) // 2, (VIEW_PX - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=how)
    return square


def _checked(image: Rgb) -> Rgb:
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
        raise PictureError(
            f"an image of shape {array.shape}, {array.dtype}: give RGB (H, W, 3) uint8"
        )
    return np.ascontiguousarray(array)
