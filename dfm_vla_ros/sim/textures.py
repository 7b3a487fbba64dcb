"""Textures that a varied table or object may have; unused otherwise."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

SIDE_PX = 64
LARGEST_PITCH = 8


def add_textures(spec: mujoco.MjSpec) -> None:
    """Add each texture and a material of the same name that shows it."""
    for name, pixels in _textures().items():
        kind = mujoco.mjtTexture.mjTEXTURE_2D
        texture = spec.add_texture(name=name, type=kind, width=SIDE_PX, height=SIDE_PX, nchannel=3)
        texture.data = np.repeat(pixels[..., None], 3, axis=-1).astype(np.uint8).tobytes()
        material = spec.add_material(name=name, texrepeat=(2, 2))
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _textures() -> dict[str, NDArray[np.uint8]]:
    """Return grey (H, W) patterns, which a geom's own colour tints."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    speckles = rng.uniform(150, 255, (SIDE_PX, SIDE_PX))
    squares = np.where((rows // LARGEST_PITCH + columns // LARGEST_PITCH) % 2, 255.0, 175.0)
    grain = 215 + 40 * np.sin(columns * 0.8 + 2 * np.sin(rows * 0.1))
    cloud = rng.uniform(140, 255, (LARGEST_PITCH, LARGEST_PITCH))
    clouds = np.kron(cloud, np.ones((SIDE_PX // LARGEST_PITCH,) * 2))
    return {"speckles": speckles, "squares": squares, "grain": grain, "clouds": clouds}


TEXTURES: tuple[str, ...] = tuple(_textures())
"""Names."""
