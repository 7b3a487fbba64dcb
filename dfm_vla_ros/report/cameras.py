"""What each camera saw against what it should see: which view, channel order and place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.report.content import Floats, Reference

COMPARED_PX = 48
"""Side of the pictures that are compared: coarse, so that small motions count little."""
FARTHEST_PX = 10
"""How far a shift is looked for, of ``COMPARED_PX``."""
MUST_HELP = 0.75
"""A shift must lower the difference to this share, or the picture did not move."""


@dataclass(frozen=True)
class Comparison:
    """C cameras against R references.

    Attributes:
        cameras, references: names of the cameras.
        difference: (C, R, 2) mean absolute difference of the pictures, 0..255; last axis: channels
            as they are, and with red and blue exchanged.
        shift: (C, 2) how far a picture lies right and down of its own reference, in parts of the
            width and height; NaN without one or where the two have too little in common.
        contrast: (C,) standard deviation of a picture, 0..255.
    """

    cameras: tuple[str, ...]
    references: tuple[str, ...]
    difference: Floats
    shift: Floats
    contrast: Floats


def compare(
    samples: Mapping[str, NDArray[np.uint8]], references: tuple[Reference, ...]
) -> Comparison:
    """Return how far each sample is from each reference.

    Args:
        samples: camera -> (H, W, 3) uint8 RGB.
        references: what the cameras should see, any size.
    """
    seen = {camera: _small(image) for camera, image in samples.items()}
    known = [(reference.camera, _small(reference.image)) for reference in references]
    difference = np.full((len(seen), len(known), 2), np.nan)
    shift = np.full((len(seen), 2), np.nan)
    for row, (camera, image) in enumerate(seen.items()):
        for column, (other, expected) in enumerate(known):
            for order, picture in enumerate((image, image[..., ::-1])):
                difference[row, column, order] = np.abs(picture - expected).mean()
            if other == camera:
                shift[row] = displacement(expected, image)
    contrast = np.array([image.std() for image in seen.values()])
    names = tuple(name for name, _ in known)
    return Comparison(tuple(seen), names, difference, shift, contrast)


def displacement(expected: Floats, image: Floats) -> tuple[float, float]:
    """Return how far ``image`` lies right and down of ``expected``, in parts of its size.

    The shift by whole pixels at which the parts that overlap differ least (block matching); NaN
    unless they differ clearly less than without a shift.
    """
    reach = range(-FARTHEST_PX, FARTHEST_PX + 1)
    found = {
        (right, down): _overlap_difference(expected, image, right, down)
        for right in reach
        for down in reach
    }
    right, down = min(found, key=lambda shift: found[shift])
    if found[right, down] > MUST_HELP * found[0, 0]:
        return np.nan, np.nan
    height, width = expected.shape[:2]
    return right / width, down / height


def _overlap_difference(expected: Floats, image: Floats, right: int, down: int) -> float:
    height, width = expected.shape[:2]
    rows = slice(max(0, down), height + min(0, down))
    columns = slice(max(0, right), width + min(0, right))
    back = (slice(rows.start - down, rows.stop - down), slice(columns.start - right, None))
    moved = image[rows, columns]
    return float(np.abs(expected[back][:, : moved.shape[1]] - moved).mean())


def _small(image: NDArray[np.uint8]) -> Floats:
    size = (COMPARED_PX, COMPARED_PX)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float64)
