"""A film and a contact sheet of a bag: three views side by side under the task's sentence."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.storage import TASK_STATUS
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.observing.cameras import Rgb, to_rgb
from dfm_vla_ros.observing.sources import nanoseconds
from dfm_vla_ros.robot.joints import CAMERAS

VIEW_PX, CAPTION_PX = 288, 28
SHEET_COLUMNS, SHEET_PX = 8, 128
EDGES = (1, 1, 1, 1, cv2.BORDER_CONSTANT)


class NothingRecorded(DfmVlaError):
    """The bag holds no images."""


@dataclass
class Episode:
    """What was seen between two resets.

    Attributes:
        caption: the task's sentence.
        frames: (seconds since the reset, camera -> image) in order of time.
    """

    caption: str
    frames: list[tuple[float, dict[str, Rgb]]] = field(default_factory=list)


@dataclass
class Recording:
    """What a bag holds.

    Attributes:
        statuses: (stamp [ns], TaskStatus), in order.
        images: stamp [ns] -> camera -> image (H, W, 3), in order.
    """

    statuses: list[tuple[int, Any]]
    images: dict[int, dict[str, Rgb]]

    @property
    def period_s(self) -> float:
        """The usual time between images [s]."""
        return float(np.median(np.diff(list(self.images)))) * 1e-9

    def episodes(self, seeds: Collection[int]) -> list[Episode]:
        """Return the episodes with these seeds; images that carry one stamp are one frame."""
        found: dict[tuple[str, int], Episode] = {}
        starts = [stamp for stamp, _ in self.statuses]
        for stamp, views in self.images.items():
            at = bisect_right(starts, stamp) - 1
            if at < 0 or len(views) < len(CAMERAS):
                continue
            began, status = self.statuses[at]
            if status.seed not in seeds:
                continue
            episode = found.setdefault((status.task, status.seed), Episode(status.instruction))
            episode.frames.append((status.elapsed + (stamp - began) * 1e-9, views))
        return list(found.values())


def read_bag(bag: Path) -> Recording:
    """Read task statuses and images.

    Raises:
        NothingRecorded: there are less than two moments with images.
    """
    statuses: list[tuple[int, Any]] = []
    images: dict[int, dict[str, Rgb]] = {}
    cameras = {f"/{camera}_camera/image_raw": camera for camera in CAMERAS}
    with Bag(bag) as reader:
        for message in reader.messages({*cameras, f"/{TASK_STATUS}"}):
            stamp = nanoseconds(message.value.header.stamp)
            if message.topic in cameras:
                images.setdefault(stamp, {})[cameras[message.topic]] = to_rgb(message.value)
            else:
                statuses.append((stamp, message.value))
    if len(images) < 2:
        raise NothingRecorded(f"{bag} holds {len(images)} moments with images, at least 2 needed")
    return Recording(sorted(statuses, key=lambda status: status[0]), dict(sorted(images.items())))


def image_shares(recording: Recording) -> dict[str, float]:
    """Return camera -> share of its images that are in the bag, by the gaps between stamps."""
    stamps = list(recording.images)
    expected = (stamps[-1] - stamps[0]) * 1e-9 / recording.period_s + 1
    held = [camera for views in recording.images.values() for camera in views]
    return {camera: held.count(camera) / expected for camera in CAMERAS}


def write_film(episodes: list[Episode], path: Path, rate: float = 20.0) -> None:
    """Write an H.264 film of all episodes at ``rate`` frames per second.

    Raises:
        NothingRecorded: no episode has a frame.
    """
    episodes = _with_frames(episodes)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height = VIEW_PX * len(CAMERAS), VIEW_PX + CAPTION_PX
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        for picture in _pictures(episodes):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_contact_sheet(episodes: list[Episode], path: Path) -> None:
    """Write a PNG: a row per view and episode, moments evenly spaced from first to last.

    Episodes without frames have no rows.

    Raises:
        NothingRecorded: no episode has a frame.
    """
    rows = []
    for episode in _with_frames(episodes):
        last = len(episode.frames) - 1
        chosen = np.linspace(0, last, SHEET_COLUMNS).round().astype(int)
        for camera in CAMERAS:
            views = [_square(episode.frames[i][1][camera], SHEET_PX) for i in chosen]
            rows.append(np.hstack([cv2.copyMakeBorder(view, *EDGES) for view in views]))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)):
        raise DfmVlaError(f"{path} cannot be written")


def _with_frames(episodes: list[Episode]) -> list[Episode]:
    """Return the episodes that have frames: at least one."""
    chosen = [episode for episode in episodes if episode.frames]
    if not chosen:
        raise NothingRecorded(
            "no episode was recorded with all three cameras at once: nothing to show"
        )
    return chosen


def _pictures(episodes: list[Episode]) -> Iterator[Rgb]:
    """Yield every frame of the film."""
    for episode in episodes:
        for elapsed_s, views in episode.frames:
            row = np.hstack([_square(views[camera], VIEW_PX) for camera in CAMERAS])
            caption = np.zeros((CAPTION_PX, row.shape[1], 3), dtype=np.uint8)
            text = f"{episode.caption}   {elapsed_s:5.1f} s"
            place = (8, CAPTION_PX - 9)
            white = (235, 235, 235)
            cv2.putText(caption, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, white, 1, cv2.LINE_AA)
            yield np.vstack([row, caption])


def _square(image: Rgb, side: int) -> Rgb:
    """Return the image scaled to fit a black square of ``side`` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (round(width * scale), round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.zeros((side, side, 3), dtype=np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=how)
    return square
