"""What may vary from episode to episode beside the plain layout: poses, light, colours, views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dfm_vla_ros.sim.errors import UnknownSetting

Layout = Literal["plain", "wide", "middle"]
MIDDLE_SHARES: dict[Layout, float] = {"wide": 0.4, "middle": 1.0}
"""Share of the layouts in which either arm reaches both things, where there are two."""


@dataclass(frozen=True)
class Variation:
    """Off by default; everything is drawn by the episode's seed.

    Attributes:
        layout: ``wide``: objects anywhere that the experts reach, plates from the table to
            0.10 m; ``middle``: those of the wide ones in which either arm reaches everything.
        light: directions, intensities, tint and ambient light.
        colours: of objects, table and floor, each within its own family of hues.
        textures: of the table, the block and the plate.
        camera_m: largest offset of a camera along each of its axes [m].
        camera_rad: largest turn of a camera about each of its axes [rad].
        zoom_deg: largest change of a vertical field of view [deg].
    """

    layout: Layout = "plain"
    light: bool = False
    colours: bool = False
    textures: bool = False
    camera_m: float = 0.0
    camera_rad: float = 0.0
    zoom_deg: float = 0.0


OFF = "off"
VARIATIONS: dict[str, Variation] = {
    OFF: Variation(),
    "layout": Variation(layout="wide"),
    "middle": Variation(layout="middle"),
    "wide": Variation(
        layout="wide",
        light=True,
        colours=True,
        textures=True,
        camera_m=0.006,
        camera_rad=0.015,
        zoom_deg=1.0,
    ),
}
"""By name."""


def variation(name: str) -> Variation:
    """Return a variation; raises UnknownSetting for an unknown name."""
    if name not in VARIATIONS:
        raise UnknownSetting(f"unknown variation {name!r}; there are {', '.join(VARIATIONS)}")
    return VARIATIONS[name]
