"""What a checkpoint asks of the images and joints that it turns into tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError


class ObservationError(DfmVlaError):
    """An observation that the policy cannot use."""


def square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the centre square of ``image`` (H, W, 3) uint8, resized to (size, size, 3).

    Raises:
        ObservationError: another type or shape.
    """
    return fitted(image, size, size)


def fitted(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return the largest centred part of ``image`` (H, W, 3) in the shape of (height, width, 3).

    Raises:
        ObservationError: another type or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ObservationError(
            f"image is {image.dtype} {image.shape}, expected uint8 (H, W, 3): convert it to RGB"
        )
    high, wide = image.shape[:2]
    scale = min(high / height, wide / width)
    rows, columns = round(scale * height), round(scale * width)
    top, left = (high - rows) // 2, (wide - columns) // 2
    cut = image[top : top + rows, left : left + columns]
    if (rows, columns) == (height, width):
        return cut
    return cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA)


def check_observation(
    cameras: Sequence[str],
    joints: int,
    images: Mapping[str, NDArray[np.uint8]],
    positions: NDArray[np.float64],
    commanded: NDArray[np.float64],
) -> None:
    """Raise ObservationError unless every camera is there and the joints are (D,)."""
    missing = [camera for camera in cameras if camera not in images]
    if missing:
        raise ObservationError(f"no image of camera {missing[0]}; needed: {tuple(cameras)}")
    for name, values in (("positions", positions), ("commanded", commanded)):
        if np.shape(values) != (joints,):
            raise ObservationError(f"{name} have shape {np.shape(values)}, expected {(joints,)}")


def check_poses(names: Sequence[str], poses: NDArray[np.float64] | None) -> None:
    """Raise ObservationError unless ``poses`` are (P,), a number for each of ``names``."""
    if poses is None:
        raise ObservationError(
            "no object poses, which this checkpoint sees instead of images; only the twin knows "
            "them: run it with dfm-vla eval, or give a checkpoint with cameras"
        )
    if np.shape(poses) != (len(names),):
        raise ObservationError(
            f"poses have shape {np.shape(poses)}, expected {(len(names),)}: {', '.join(names)}"
        )
