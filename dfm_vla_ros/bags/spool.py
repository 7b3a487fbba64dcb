"""Images of one episode, on the disk while it grows: memory stays bounded however long it is."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.bags.faults import BagError
from dfm_vla_ros.observing.images import Rgb


class Spool:
    """Appends images; the files have no name, so that a killed process leaves none."""

    def __init__(self, folder: Path) -> None:
        """Keep the files in ``folder``, which is a disk with room."""
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Camera -> shape of its images."""
        self.length = 0

    def append(self, images: Mapping[str, Rgb]) -> None:
        """Add a frame.

        Raises:
            BagError: an image is of another size than the one before it.
        """
        for camera, image in images.items():
            if camera not in self._files:
                self._files[camera] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
                self.shapes[camera] = image.shape
            if image.shape != self.shapes[camera]:
                sizes = f"{self.shapes[camera]} to {image.shape}"
                raise BagError(f"{camera} changes from {sizes} within an episode")
            self._files[camera].write(np.ascontiguousarray(image).data)
        self.length += 1

    def images(self, length: int) -> dict[str, NDArray[np.uint8]]:
        """Return camera -> the first ``length`` images (T, H, W, 3), mapped from the disk."""
        for file in self._files.values():
            file.flush()
        return {
            camera: np.memmap(file, np.uint8, "r", shape=(length, *self.shapes[camera]))
            for camera, file in self._files.items()
        }

    def close(self) -> None:
        """Give the disk back."""
        for file in self._files.values():
            file.close()
