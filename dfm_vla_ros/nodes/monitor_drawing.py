"""What the monitor draws: markers of plans, ways and texts, and the annotated view; no node.

Every marker has a namespace and an id of its own that stay: a new one replaces the old, one that
means nothing any more is deleted, and one that nobody renews ends by itself (``lifetime``).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Quaternion
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker

from dfm_vla_ros.robot.collision_scene import Shape, shapes_of
from dfm_vla_ros.robot.joints import ARMS
from dfm_vla_ros.robot.model import RobotModel

Array = NDArray[np.float64]
Rgb = NDArray[np.uint8]
Colour = tuple[float, ...]

PLAN, COMMITTED, REFINEMENT, EXECUTED = "plan", "committed", "refinement", "executed"
STATUS, COMMANDED = "status", "commanded"
PATHS = (PLAN, COMMITTED, REFINEMENT)
WIDTHS_M = {PLAN: 0.006, COMMITTED: 0.011, REFINEMENT: 0.0015, EXECUTED: 0.004}
COMMITTED_COLOUR = (0.35, 0.55, 1.0, 1.0)
EXECUTED_COLOUR = (0.75, 0.75, 0.75, 0.9)
UNKNOWN_COLOUR = (0.9, 0.9, 0.9, 1.0)
TEXT_HEIGHT_M, LINE_M = 0.035, 0.05
TEXT_AT_M = (0.3, 0.0, 0.55)


@dataclass(frozen=True)
class Look:
    """What all markers share.

    Attributes:
        frame: the robot's root.
        lifetime_s: after which a marker that is not renewed ends [s].
        sure: confidence that counts as certain and is drawn green.
    """

    frame: str
    lifetime_s: float = 2.0
    sure: float = 0.3


@dataclass(frozen=True)
class ShownPlan:
    """The paths of one chunk.

    Attributes:
        path: (H + 1, A, 3) [m] from where the grippers are at the observation.
        confidence: (H, A), NaN where it is not known.
        committed_steps: first steps that repeat the running chunk's.
        fan: (E, H + 1, A, 3) the path that each evaluation stood for; NaN: none yet.
    """

    path: Array
    confidence: Array
    committed_steps: int
    fan: Array


def plan_markers(plan: ShownPlan, look: Look, stamp: Time) -> list[Marker]:
    """Return markers of PATHS for both arms."""
    markers = []
    for index, arm in enumerate(ARMS):
        path, fan = plan.path[:, index], plan.fan[:, :, index]
        colours = [confidence_colour(value, look.sure) for value in plan.confidence[:, index]]
        colours = [colours[0], *colours]
        kept = path[: plan.committed_steps + 1] if plan.committed_steps else path[:0]
        markers += [
            line(f"{PLAN}/{arm}", path, colours, look, stamp),
            line(f"{COMMITTED}/{arm}", kept, [COMMITTED_COLOUR] * len(kept), look, stamp),
            fan_marker(f"{REFINEMENT}/{arm}", fan, look, stamp),
        ]
    return markers


def executed_markers(trail: Array, look: Look, stamp: Time) -> list[Marker]:
    """Return the way that both grippers went: ``trail`` is (T, A, 3) [m]."""
    colours = [EXECUTED_COLOUR] * len(trail)
    return [
        line(f"{EXECUTED}/{arm}", trail[:, index], colours, look, stamp)
        for index, arm in enumerate(ARMS)
    ]


def deleted(namespaces: Sequence[str], look: Look, stamp: Time) -> list[Marker]:
    """Return markers that delete these of both arms."""
    none = np.empty((0, 3))
    return [line(f"{name}/{arm}", none, [], look, stamp) for name in namespaces for arm in ARMS]


def texts(lines: Sequence[tuple[str, bool]], look: Look, stamp: Time) -> list[Marker]:
    """Return one text a line from the top down; an empty one is deleted.

    Args:
        lines: each with whether it tells of trouble.
        look: shared.
        stamp: of the markers.
    """
    markers = []
    for index, (text, trouble) in enumerate(lines):
        marker = _marker(STATUS, index, Marker.TEXT_VIEW_FACING, look, stamp)
        marker.scale.z = TEXT_HEIGHT_M
        x, y, z = TEXT_AT_M
        marker.pose.position = Point(x=x, y=y, z=z - index * LINE_M)
        marker.color = colour((1.0, 0.35, 0.3, 1.0) if trouble else (0.9, 0.9, 0.9, 1.0))
        marker.text = text
        if not text:
            marker.action = Marker.DELETE
        markers.append(marker)
    return markers


def line(
    namespace: str, points: Array, colours: Sequence[tuple], look: Look, stamp: Time
) -> Marker:
    """Return a strip through ``points`` (P, 3); DELETE if they are no line or not finite."""
    marker = _marker(namespace, 0, Marker.LINE_STRIP, look, stamp)
    if len(points) < 2 or not np.isfinite(points).all():
        marker.action = Marker.DELETE
        return marker
    marker.scale.x = WIDTHS_M[namespace.partition("/")[0]]
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in points.tolist()]
    marker.colors = [colour(rgba) for rgba in colours]
    return marker


def fan_marker(namespace: str, fan: Array, look: Look, stamp: Time) -> Marker:
    """Return all paths (E, P, 3) but the last in one marker, the early ones faint and blue.

    One list of segments, so that fewer evaluations leave nothing behind.
    """
    marker = _marker(namespace, 0, Marker.LINE_LIST, look, stamp)
    marker.scale.x = WIDTHS_M[REFINEMENT]
    for row, path in enumerate(fan[:-1]):
        if not np.isfinite(path).all():
            continue
        shade = colour(fan_colour((row + 1) / len(fan)))
        points = [Point(x=x, y=y, z=z) for x, y, z in path.tolist()]
        for pair in itertools.pairwise(points):
            marker.points.extend(pair)
            marker.colors.extend((shade, shade))
    if not marker.points:
        marker.action = Marker.DELETE
    return marker


def fan_colour(settled: float) -> Colour:
    """Return the colour of a path at a share of the refinement, from violet to yellow."""
    return (0.3 + 0.7 * settled, 0.2 + 0.65 * settled, 0.9 - 0.7 * settled, 0.1 + 0.5 * settled)


def confidence_colour(confidence: float, sure: float) -> Colour:
    """Return red (0) over yellow to green (``sure`` and above); grey if it is not known."""
    if not np.isfinite(confidence):
        return UNKNOWN_COLOUR
    share = min(max(float(confidence) / sure, 0.0), 1.0)
    return (min(1.0, 2 - 2 * share), min(1.0, 2 * share), 0.1, 1.0)


def colour(rgba: Sequence[float]) -> ColorRGBA:
    """Return the message."""
    r, g, b, a = rgba
    return ColorRGBA(r=float(r), g=float(g), b=float(b), a=float(a))


def _marker(namespace: str, number: int, kind: int, look: Look, stamp: Time) -> Marker:
    marker = Marker(ns=namespace, id=number, type=kind, action=Marker.ADD)
    marker.header.frame_id, marker.header.stamp = look.frame, stamp
    marker.pose.orientation.w = 1.0
    sec, rest = divmod(look.lifetime_s, 1.0)
    marker.lifetime = Duration(sec=int(sec), nanosec=round(rest * 1e9))
    return marker


class Ghost:
    """Places the collision shapes of the links that move."""

    def __init__(self, robot: RobotModel) -> None:
        """Read the shapes.

        Raises:
            UrdfError: one of them cannot be used.
        """
        self._robot = robot
        self._bodies = [
            (link, shape, *_solid(shape))
            for link, shapes in shapes_of(robot).items()
            if robot.sources(link)
            for shape in shapes
        ]

    def markers(self, positions: Array, look: Look, stamp: Time) -> list[Marker]:
        """Return every body at ``positions`` (D,) [rad], grippers [m]; ids in the URDF's order."""
        poses = self._robot.poses(positions, sorted({body[0] for body in self._bodies}))
        markers = []
        for number, (link, shape, kind, size, file) in enumerate(self._bodies):
            marker = _marker(COMMANDED, number, kind, look, stamp)
            marker.scale.x, marker.scale.y, marker.scale.z = map(float, size)
            marker.color = colour((0.3, 0.7, 1.0, 0.25))
            turn = Rotation.from_matrix(poses[link][:3, :3])
            x, y, z = (poses[link][:3, 3] + turn.apply(shape.xyz)).tolist()
            marker.pose.position = Point(x=x, y=y, z=z)
            turned = turn * Rotation.from_euler("xyz", shape.rpy)
            x, y, z, w = turned.as_quat(canonical=True).tolist()
            marker.pose.orientation = Quaternion(x=x, y=y, z=z, w=w)
            marker.mesh_resource = file
            markers.append(marker)
        return markers


def _solid(shape: Shape) -> tuple[int, tuple[float, ...], str]:
    """Return a marker's type, size [m] and mesh."""
    if shape.kind == "mesh":
        return Marker.MESH_RESOURCE, shape.size, f"file://{shape.file}"
    if shape.kind == "box":
        return Marker.CUBE, shape.size, ""
    diameter = 2 * shape.size[0]
    if shape.kind == "sphere":
        return Marker.SPHERE, (diameter,) * 3, ""
    return Marker.CYLINDER, (diameter, diameter, shape.size[1]), ""


LINE_PX, MARGIN_PX, BAR_PX = 18, 6, 6
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
WHITE, RED, DARK = (235, 235, 235), (255, 110, 95), (25, 25, 25)
NEAREST_M = 0.02


@dataclass(frozen=True)
class Pinhole:
    """A camera without distortion.

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
    drawings: Sequence[tuple[Array, Sequence[Colour], int]] = (),
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
    camera: Pinhole, size: tuple[int, int], plan: ShownPlan | None, trail: Array, look: Look
) -> list[tuple[Array, list[Colour], int]]:
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


def _polyline(picture: Rgb, points: Array, colours: Sequence[Colour], thickness: int) -> None:
    """Draw the segments whose ends are known; a colour's alpha fades it into the picture."""
    bounded = np.clip(points, -1e4, 1e4)
    for first, second, rgba in zip(bounded[:-1], bounded[1:], colours[1:], strict=True):
        if not np.isfinite([*first, *second]).all():
            continue
        ends = [tuple(int(v) for v in np.rint(end * 16)) for end in (first, second)]
        cv2.line(picture, *ends, _faded(picture, first, rgba), thickness, cv2.LINE_AA, 4)


def _faded(picture: Rgb, at: Array, rgba: Colour) -> Colour:
    """Return the colour over what is in the picture at ``at`` (2,)."""
    height, width = picture.shape[:2]
    column, row = np.clip(np.rint(at), 0, (width - 1, height - 1)).astype(int)
    return tuple(
        255 * rgba[3] * value + (1 - rgba[3]) * float(below)
        for value, below in zip(rgba[:3], picture[row, column], strict=True)
    )
