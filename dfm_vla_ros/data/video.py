"""Episodes in MP4 files: encoded alone, joined without encoding again, decoded by range.

H.264 in RGB without loss (``libx264rgb``, quantiser 0), no B-frames, one key frame at the start of
each episode. Every frame lies exactly at its index divided by the rate.
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dfm_vla_ros.data.format import DatasetError

Images = NDArray[np.uint8]

CODEC = "libx264rgb"
PIXELS = "rgb24"
OPTIONS = {"crf": "0", "bf": "0", "g": "100000", "preset": "medium", "threads": "1"}


def encode(images: Images, fps: int) -> bytes:
    """Return an MP4 file of ``images`` (T, H, W, 3), without loss."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(CODEC, rate=fps, options=OPTIONS)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = PIXELS
        for image in images:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=PIXELS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def join(first: Path, first_frames: int, second: bytes, fps: int) -> bytes | None:
    """Return the first ``first_frames`` of a file, then all of ``second``, without encoding.

    Returns:
        An MP4 file, or None if the two were not encoded alike.
    """
    out = io.BytesIO()
    try:
        with av.open(str(first)) as a, av.open(io.BytesIO(second)) as b:
            if _parameters(a) != _parameters(b):
                return None
            with av.open(out, "w", format="mp4") as container:
                copied = _copy(a, container, 0, first_frames, fps)
                if copied != first_frames:
                    raise DatasetError(f"{first} has {copied} frames, needs {first_frames}")
                _copy(b, container, first_frames, None, fps)
    except FFmpegError as error:
        raise DatasetError(f"{first} cannot be read: {error}") from error
    return out.getvalue()


def _parameters(container: Any) -> tuple[Any, ...]:
    context = container.streams.video[0].codec_context
    return context.name, context.width, context.height, context.extradata


def _copy(source: Any, out: OutputContainer, start: int, limit: int | None, fps: int) -> int:
    """Copy at most ``limit`` packets to frame ``start`` and on; return how many."""
    template = source.streams.video[0]
    if out.streams.video:
        stream = out.streams.video[0]
    else:
        stream = out.add_stream_from_template(template)
        stream.time_base = template.time_base
    shift = ticks(start, fps, template.time_base)
    count = 0
    for packet in source.demux(template):
        if packet.pts is None or (limit is not None and count == limit):
            continue
        packet.pts += shift
        packet.dts = packet.pts
        packet.stream = stream
        out.mux(packet)
        count += 1
    return count


def ticks(frame: int, fps: int, time_base: Fraction) -> int:
    """Return the time of a frame in units of ``time_base`` [s]."""
    return round(Fraction(frame, fps) / time_base)


def decode(path: Path, start: int, length: int, fps: int) -> Images:
    """Return the frames ``start`` .. ``start + length - 1``, (T, H, W, 3); raises DatasetError."""
    if not path.is_file():
        raise DatasetError(f"{path} is missing; restore it or collect the data again")
    try:
        with av.open(str(path)) as container:
            return _range(container, path, start, length, fps)
    except (FFmpegError, IndexError) as error:
        raise DatasetError(f"{path} is no whole video ({error}); restore it") from error


def _range(container: Any, path: Path, start: int, length: int, fps: int) -> Images:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    times = [ticks(start + i, fps, stream.time_base) for i in range(length)]
    container.seek(times[0], stream=stream)
    images = np.empty((length, stream.height, stream.width, 3), np.uint8)
    reformatter = VideoReformatter()
    found = 0
    for frame in container.decode(stream):
        if frame.pts is None or frame.pts < times[0]:
            continue
        if frame.pts != times[found]:
            break
        images[found] = _rgb(frame, reformatter)
        found += 1
        if found == length:
            return images
    raise DatasetError(
        f"{path} has no frame at {(start + found) / fps:.3f} s, needs {length} from "
        f"{start / fps:.3f} s on at {fps} Hz; it was cut: restore it"
    )


def _rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> Images:
    """Return a frame (H, W, 3); the planes of our own videos need no conversion."""
    if frame.format.name != "gbrp":
        frame = reformatter.reformat(frame, format=PIXELS)
    return frame.to_ndarray()
