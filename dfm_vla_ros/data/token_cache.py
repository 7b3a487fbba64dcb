"""Image tokens on disk, so that each image is encoded once by each tokenizer.

A file is a ``.npy`` array followed by its checksum. What is damaged counts as absent.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.data.format import DatasetError
from dfm_vla_ros.data.recovery import replace_file

Tokens = NDArray[np.integer]
Encode = Callable[[NDArray[np.uint8]], Tokens]
"""Images (T, H, W, 3) -> tokens (T, N)."""

CHECKSUM = 4
"""Bytes of the CRC-32 at a file's end."""


class TokenCache:
    """Tokens of one image tokenizer; other tokenizers and processes may use the same folder."""

    def __init__(self, folder: Path, tokenizer_hash: str) -> None:
        """Keep files in a folder of the tokenizer's own.

        Args:
            folder: of the cache; is made when needed.
            tokenizer_hash: of all that decides the tokens: sizes and weights.
        """
        self._folder = Path(folder) / tokenizer_hash[:16]
        self._hash = tokenizer_hash

    def tokens(self, dataset: Dataset, i: int, camera: str, encode: Encode) -> Tokens:
        """Return the tokens (T, N) of a camera in episode ``i``, encoded now if need be.

        The array is mapped from the file, not read: it takes no memory until it is used.

        Raises:
            DatasetError: the data set lacks the camera, or ``encode`` returns no row of whole
                numbers for each image.
        """
        key = f"{dataset.identity}/{dataset.keys[i]}"
        kept = self.get(key, camera)
        if kept is not None:
            return kept
        images = dataset.episode(i, images=(camera,)).images[camera]
        tokens = np.asarray(encode(images))
        if len(tokens) != len(images) or not np.issubdtype(tokens.dtype, np.integer):
            raise DatasetError(
                f"{len(images)} images of {camera} were encoded as {tokens.shape} {tokens.dtype}; "
                "give a row of whole numbers for each"
            )
        self.put(key, camera, tokens)
        kept = self.get(key, camera)
        return tokens if kept is None else kept

    def get(self, episode: str, name: str) -> Tokens | None:
        """Return the kept array, mapped read-only, or None if it is absent or damaged.

        Args:
            episode: unique among all data sets.
            name: what of the episode: camera, and how the images were changed.
        """
        path = self._path(episode, name)
        try:
            if not _is_whole(path):
                return None
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None

    def put(self, episode: str, name: str, tokens: Tokens) -> None:
        """Keep an array; who reads meanwhile gets the old one, the new one or none."""
        file = io.BytesIO()
        np.save(file, tokens, allow_pickle=False)
        content = file.getvalue()
        checksum = zlib.crc32(content).to_bytes(CHECKSUM, "little")
        replace_file(self._path(episode, name), lambda path: _write(path, content + checksum))

    def _path(self, episode: str, name: str) -> Path:
        digest = hashlib.sha256(repr((self._hash, episode, name)).encode()).hexdigest()
        return self._folder / digest[:2] / f"{digest[2:34]}.npy"


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _is_whole(path: Path) -> bool:
    content = path.read_bytes()
    return zlib.crc32(content[:-CHECKSUM]) == int.from_bytes(content[-CHECKSUM:], "little")
