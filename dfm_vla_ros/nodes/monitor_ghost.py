"""The robot as it is commanded: its bodies as markers, see-through; no node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Quaternion
from numpy.typing import NDArray
from visualization_msgs.msg import Marker

from dfm_vla_ros.nodes.monitor_markers import Look, shape_marker
from dfm_vla_ros.robot.collision_urdf import Robot, Shape
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.kinematics import Kinematics, pose, quaternion

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Body:
    link: str
    origin: Array
    kind: int
    size: tuple[float, ...]
    file: str


class Ghost:
    """Places the collision shapes of the links that move."""

    def __init__(self, urdf: str, kinematics: Kinematics) -> None:
        """Read the shapes.

        Raises:
            CollisionModelError: one of them cannot be used.
        """
        self._kinematics = kinematics
        robot = Robot(urdf, JOINT_NAMES)
        self._bodies = [
            _body(link, shape)
            for link, shapes in robot.shapes.items()
            if robot.sources(link)
            for shape in shapes
        ]

    def markers(self, positions: Array, look: Look, stamp: Time) -> list[Marker]:
        """Return every body at ``positions`` (D,) [rad], grippers [m]; ids in the URDF's order."""
        poses = self._kinematics.poses(positions, sorted({body.link for body in self._bodies}))
        return [
            self._marker(number, body, poses[body.link] @ body.origin, look, stamp)
            for number, body in enumerate(self._bodies)
        ]

    def _marker(self, number: int, body: _Body, at: Array, look: Look, stamp: Time) -> Marker:
        marker = shape_marker(number, body.kind, body.size, look, stamp)
        x, y, z = at[:3, 3].tolist()
        marker.pose.position = Point(x=x, y=y, z=z)
        x, y, z, w = quaternion(at[:3, :3]).tolist()
        marker.pose.orientation = Quaternion(x=x, y=y, z=z, w=w)
        marker.mesh_resource = body.file
        return marker


def _body(link: str, shape: Shape) -> _Body:
    origin, file = pose(shape.xyz, shape.rpy), ""
    if shape.kind == "mesh":
        return _Body(link, origin, Marker.MESH_RESOURCE, shape.size, f"file://{shape.file}")
    if shape.kind == "box":
        return _Body(link, origin, Marker.CUBE, shape.size, file)
    diameter = 2 * shape.size[0]
    if shape.kind == "sphere":
        return _Body(link, origin, Marker.SPHERE, (diameter,) * 3, file)
    return _Body(link, origin, Marker.CYLINDER, (diameter, diameter, shape.size[1]), file)
