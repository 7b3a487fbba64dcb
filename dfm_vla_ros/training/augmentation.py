"""Changed versions of images, each a function of (seed, episode, version) alone."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.training.config import AugmentationConfig
from dfm_vla_ros.training.draws import stream

Images = NDArray[np.uint8]
OTHERS = ("variants", "code_dropout", "joint_shift_rad", "pose_shift_m")
"""Keys that do not change an image."""


def version_name(config: AugmentationConfig, seed: int, version: int) -> str:
    """Return what tells apart the cached codes of version 0 (clean), 1, 2, ..."""
    if version == 0:
        return "clean"
    kept = {k: v for k, v in asdict(config).items() if k not in OTHERS}
    return f"{stream(seed, version, sorted(kept.items())):016x}"


def changed(images: Images, config: AugmentationConfig, *identity: object) -> Images:
    """Return ``images`` (T, H, W, 3) with other brightness, contrast and place, frame by frame.

    Args:
        images: of one camera and episode.
        config: the largest changes.
        identity: what the changes follow from, such as seed, episode, camera and version.
    """
    rng = np.random.default_rng(stream("augmentation", *identity))
    gain = 1 + config.contrast * rng.uniform(-1, 1, len(images))
    offset = 255 * config.brightness * rng.uniform(-1, 1, len(images)) / 2
    reach = config.shift_px
    moves = rng.integers(-reach, reach + 1, (len(images), 2))
    out = np.empty_like(images)
    for place, (image, move) in enumerate(zip(images, moves, strict=True)):
        light = (image.astype(np.float32) - 127.5) * gain[place] + 127.5 + offset[place]
        out[place] = shifted(np.rint(np.clip(light, 0, 255)).astype(np.uint8), *move)
    return out


def shifted(image: Images, down: int, right: int) -> Images:
    """Return ``image`` (H, W, 3) moved; its edges repeat."""
    rows = np.clip(np.arange(image.shape[0]) - down, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) - right, 0, image.shape[1] - 1)
    return image[rows[:, None], columns[None]]
