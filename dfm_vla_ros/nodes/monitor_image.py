"""The third view with what the policy plans drawn into it, and a caption; no node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.nodes.monitor_markers import (
    COMMITTED_COLOUR,
    EXECUTED_COLOUR,
    Look,
    Plan,
    confidence_colour,
    fan_colour,
)

Array = NDArray[np.float64]
Rgb = NDArray[np.uint8]

LINE_PX, MARGIN_PX, BAR_PX = 18, 6, 6
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
WHITE, RED, DARK = (235, 235, 235), (255, 110, 95), (25, 25, 25)
NEAREST_M = 0.02


@dataclass(frozen=True)
class Camera:
    """A pinhole.

    Attributes:
        intrinsics: (3, 3), of an image of ``size``.
        size: width, height [px].
        pose: (4, 4) of the optical frame (z forward, x right, y down) in the robot's root.
    """

    intrinsics: Array
    size: tuple[int, int]
    pose: Array

    def project(self, points: Array, size: tuple[int, int]) -> Array:
        """Return (P, 2) pixels of ``points`` (P, 3) [m] in an image of ``size``; NaN: behind."""
        seen = (points - self.pose[:3, 3]) @ self.pose[:3, :3]
        in_front = np.where(seen[:, 2:] > NEAREST_M, seen[:, 2:], np.nan)
        pixels = (seen / in_front) @ self.intrinsics.T
        # The centre of the first pixel is at 0, its edge at -0.5.
        scale = np.divide(size, self.size)
        return (pixels[:, :2] + 0.5) * scale - 0.5


def annotate(
    view: Rgb,
    width_px: int,
    lines: Sequence[tuple[str, bool]],
    progress: float,
    drawings: Sequence[tuple[Array, Sequence[tuple[float, ...]], int]] = (),
) -> Rgb:
    """Return the view, enlarged, with polylines in it and lines of text and a bar below.

    Args:
        view: (H, W, 3) RGB.
        width_px: of the result [px].
        lines: texts, each with whether it tells of trouble.
        progress: of the task, 0 to 1.
        drawings: (points (P, 2) in the enlarged view [px], a colour a point, width [px]).
    """
    height_px = enlarged(view.shape[:2], width_px)
    picture = cv2.resize(view, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    for points, colours, thickness in drawings:
        _polyline(picture, points, colours, thickness)
    below = np.full((LINE_PX * len(lines) + MARGIN_PX + BAR_PX, width_px, 3), DARK, np.uint8)
    share = min(max(progress, 0.0), 1.0) if np.isfinite(progress) else 0.0
    below[:BAR_PX, : round(share * width_px)] = (90, 200, 110)
    for number, (text, trouble) in enumerate(lines):
        at = (MARGIN_PX, BAR_PX + LINE_PX * (number + 1) - 4)
        ascii_text = text.encode("ascii", "replace").decode()
        ink = RED if trouble else WHITE
        cv2.putText(below, ascii_text, at, FONT, FONT_SCALE, ink, 1, cv2.LINE_AA)
    return np.vstack([picture, below])


def enlarged(shape: tuple[int, int], width_px: int) -> int:
    """Return the height [px] of an image of ``shape`` (H, W) made ``width_px`` wide."""
    return max(1, round(shape[0] * width_px / shape[1]))


def drawings(
    camera: Camera, size: tuple[int, int], plan: Plan | None, trail: Array, look: Look
) -> list[tuple[Array, list[tuple[float, ...]], int]]:
    """Return plan, fan and executed path (T, A, 3) as `annotate` takes them."""
    found = []
    for arm in range(trail.shape[1] if plan is None else plan.path.shape[1]):
        if len(trail) > 1:
            shade = [EXECUTED_COLOUR] * len(trail)
            found.append((camera.project(trail[:, arm], size), shade, 1))
        if plan is None:
            continue
        for row, path in enumerate(plan.fan[:-1]):
            shade = [fan_colour((row + 1) / len(plan.fan))] * len(path)
            found.append((camera.project(path[:, arm], size), shade, 1))
        sure = [confidence_colour(value, look.sure) for value in plan.confidence[:, arm]]
        pixels = camera.project(plan.path[:, arm], size)
        found.append((pixels, [sure[0], *sure], 2))
        kept = pixels[: plan.committed_steps + 1 if plan.committed_steps else 0]
        found.append((kept, [COMMITTED_COLOUR] * len(kept), 3))
    return found


def _polyline(
    picture: Rgb, points: Array, colours: Sequence[tuple[float, ...]], thickness: int
) -> None:
    """Draw the segments whose ends are known; a colour's alpha fades it into the picture."""
    bounded = np.clip(points, -1e4, 1e4)
    for first, second, rgba in zip(bounded[:-1], bounded[1:], colours[1:], strict=True):
        if not np.isfinite([*first, *second]).all():
            continue
        ends = [tuple(int(v) for v in np.rint(end * 16)) for end in (first, second)]
        cv2.line(picture, *ends, _faded(picture, first, rgba), thickness, cv2.LINE_AA, 4)


def _faded(picture: Rgb, at: Array, rgba: tuple[float, ...]) -> tuple[float, ...]:
    """Return the colour over what is in the picture at ``at`` (2,)."""
    height, width = picture.shape[:2]
    column, row = np.clip(np.rint(at), 0, (width - 1, height - 1)).astype(int)
    return tuple(
        255 * rgba[3] * value + (1 - rgba[3]) * float(below)
        for value, below in zip(rgba[:3], picture[row, column], strict=True)
    )
