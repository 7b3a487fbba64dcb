"""A film and a contact sheet of a bag: three views side by side under the task's sentence."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.storage import TASK_STATUS
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.observing.cameras import Rgb, to_rgb
from dfm_vla_ros.observing.sources import nanoseconds
from dfm_vla_ros.report.content import FilmEncoder, square
from dfm_vla_ros.robot.joints import CAMERAS

VIEW_PX, CAPTION_PX, QUALITY = 288, 28, 20
SHEET_COLUMNS, SHEET_PX = 8, 128
EDGES = (1, 1, 1, 1, cv2.BORDER_CONSTANT)


class NothingRecorded(DfmVlaError):
    """The bag holds no images."""


@dataclass
class FilmEpisode:
    """What was seen between two resets: (seconds since the reset, camera -> image), in order."""

    caption: str
    frames: list[tuple[float, dict[str, Rgb]]] = field(default_factory=list)


@dataclass
class RecordedImages:
    """What a bag holds for a film.

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

    def episodes(self, seeds: Collection[int]) -> list[FilmEpisode]:
        """Return the episodes with these seeds; images that carry one stamp are one frame."""
        found: dict[tuple[str, int], FilmEpisode] = {}
        starts = [stamp for stamp, _ in self.statuses]
        for stamp, views in self.images.items():
            at = bisect_right(starts, stamp) - 1
            if at < 0 or len(views) < len(CAMERAS):
                continue
            began, status = self.statuses[at]
            if status.seed not in seeds:
                continue
            key = (status.task, status.seed)
            episode = found.setdefault(key, FilmEpisode(status.instruction))
            episode.frames.append((status.elapsed + (stamp - began) * 1e-9, views))
        return list(found.values())

    def shares(self) -> dict[str, float]:
        """Return camera -> share of its images that are there, by the gaps between stamps."""
        stamps = list(self.images)
        expected = (stamps[-1] - stamps[0]) * 1e-9 / self.period_s + 1
        held = [camera for views in self.images.values() for camera in views]
        return {camera: held.count(camera) / expected for camera in CAMERAS}


def read_images_of(bag: Path) -> RecordedImages:
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
    statuses.sort(key=lambda status: status[0])
    return RecordedImages(statuses, dict(sorted(images.items())))


def write_film(episodes: list[FilmEpisode], path: Path, rate: float = 20.0) -> None:
    """Write an H.264 film of all episodes at ``rate`` frames per second.

    Raises:
        NothingRecorded: no episode has a frame.
    """
    encoder = FilmEncoder(rate, view_px=VIEW_PX, quality=QUALITY)
    for episode in _with_frames(episodes):
        for elapsed_s, views in episode.frames:
            strip = _strip(f"{episode.caption}   {elapsed_s:5.1f} s")
            encoder.add({camera: views[camera] for camera in CAMERAS}, below=strip)
    film = encoder.finish()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(film.data)


def _strip(text: str) -> Rgb:
    strip = np.zeros((CAPTION_PX, VIEW_PX * len(CAMERAS), 3), dtype=np.uint8)
    place, white = (8, CAPTION_PX - 9), (235, 235, 235)
    return cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, white, 1, cv2.LINE_AA)


def write_contact_sheet(episodes: list[FilmEpisode], path: Path) -> None:
    """Write a PNG: a row per view and episode, moments evenly spaced from first to last.

    Raises:
        NothingRecorded: no episode has a frame.
    """
    rows = []
    for episode in _with_frames(episodes):
        last = len(episode.frames) - 1
        chosen = np.linspace(0, last, SHEET_COLUMNS).round().astype(int)
        for camera in CAMERAS:
            views = [square(episode.frames[i][1][camera], SHEET_PX) for i in chosen]
            rows.append(np.hstack([cv2.copyMakeBorder(view, *EDGES) for view in views]))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)):
        raise DfmVlaError(f"{path} cannot be written: choose another --out")


def _with_frames(episodes: list[FilmEpisode]) -> list[FilmEpisode]:
    chosen = [episode for episode in episodes if episode.frames]
    if not chosen:
        raise NothingRecorded(
            "no episode was recorded with all three cameras at once: nothing to show"
        )
    return chosen
