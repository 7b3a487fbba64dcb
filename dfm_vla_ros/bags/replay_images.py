"""The images that chunks were made from, found by their stamps; few are held at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.replay_records import ChunkRecord
from dfm_vla_ros.observing.cameras import TRANSPORTS
from dfm_vla_ros.observing.images import ImageRefused
from dfm_vla_ros.observing.stamps import nanoseconds
from dfm_vla_ros.robot.joints import CAMERAS

Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """A chunk with its images.

    Attributes:
        record: of the chunk.
        images: camera -> (H, W, 3) RGB.
        missing: cameras whose image of that moment the bag lacks; a black one stands in.
    """

    record: ChunkRecord
    images: dict[str, Rgb]
    missing: tuple[str, ...] = ()


def image_topics(topics: Mapping[str, str]) -> dict[str, str]:
    """Return name in the bag -> camera: raw images where there are both."""
    found: dict[str, str] = {}
    for camera in CAMERAS:
        for transport in TRANSPORTS.values():
            relative = f"{camera}_camera/{transport.suffix}"
            if relative in topics:
                found[topics[relative]] = camera
                break
    return found


def read_images(bag: Bag, topics: Mapping[str, str]) -> Iterator[tuple[str, int, Rgb]]:
    """Yield (camera, stamp [ns], image) in the order of the bag; faults are noted in it."""
    cameras = image_topics(topics)
    decoders = {transport.kind: transport.decode for transport in TRANSPORTS.values()}
    for message in bag.messages(set(cameras)):
        stamp_ns = nanoseconds(message.value.header.stamp)
        try:
            pixels = decoders[message.kind](message.value)
        except ImageRefused as error:
            bag.faults.add(message.topic, "image", str(error), stamp_ns)
            continue
        yield cameras[message.topic], stamp_ns, pixels


def seen(images: Iterator[tuple[str, int, Rgb]], records: Sequence[ChunkRecord]) -> Iterator[Seen]:
    """Yield every record with its images as soon as all have come; at the end what lacks some."""
    wanted: dict[tuple[str, int], list[ChunkRecord]] = {}
    for record in records:
        for key in record.image_stamps.items():
            wanted.setdefault(key, []).append(record)
    held: dict[int, dict[str, Rgb]] = {record.number: {} for record in records}
    for camera, stamp_ns, pixels in images:
        for record in wanted.pop((camera, stamp_ns), ()):
            found = held[record.number]
            found[camera] = pixels
            if len(found) == len(record.image_stamps):
                yield _seen(record, held.pop(record.number))
    for record in records:
        if held.get(record.number):
            yield _seen(record, held[record.number])


def _seen(record: ChunkRecord, found: Mapping[str, Rgb]) -> Seen:
    """Return the record with its images in its order, black ones for those that are missing."""
    black = np.zeros_like(next(iter(found.values())))
    missing = tuple(camera for camera in record.image_stamps if camera not in found)
    images = {camera: found.get(camera, black) for camera in record.image_stamps}
    return Seen(record, images, missing)
