"""Random numbers of an episode: one stream for each purpose, so that one leaves the others be."""

from __future__ import annotations

import zlib

import numpy as np


def draw(task: str, seed: int, purpose: str = "layout") -> np.random.Generator:
    """Return the generator of a purpose in the episode ``seed`` of ``task``.

    The task's name is mixed in, so that equal seeds of two tasks are not alike.
    """
    words = [seed, zlib.crc32(task.encode())]
    return np.random.default_rng(
        words if purpose == "layout" else [*words, zlib.crc32(purpose.encode())]
    )
