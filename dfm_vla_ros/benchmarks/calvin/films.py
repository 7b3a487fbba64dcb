"""Frames that a simulator kept, as a video beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dfm_vla_ros.report.pictures import FilmEncoder

FRAMES_HZ = 10.0
"""Of the video; a frame is what the policy saw, so its pace is not that of the robot."""


def encode_film(path: Path) -> None:
    """Replace the frames (N, H, W, 3) in ``path``, .npy, by an .mp4 of the same name."""
    encoder = FilmEncoder(FRAMES_HZ)
    for image in np.load(path):
        encoder.add({"static": image})
    film = encoder.finish()
    if film is not None:
        path.with_suffix(".mp4").write_bytes(film.data)
    path.unlink()
