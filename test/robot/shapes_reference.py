"""Distances of boxes and cylinders worked out without MuJoCo: own kinematics, own geometry."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.model import RobotModel

Array = NDArray[np.float64]

TABLE = "table"
ROBOT = RobotModel()
URDF = ROBOT.urdf
LIMITS = ROBOT.limits()
HOME = np.array([0.0, 1.455, -0.729, 0.0, 0.931, 0.0, 0.035] * 2)


@dataclass(frozen=True)
class Solid:
    """A shape of a link; ``half`` of a cylinder is (radius, radius, half its length)."""

    link: str
    round: bool
    half: Array
    pose: Array


class Arms:
    """A URDF's links by homogeneous matrices, one joint after the other."""

    def __init__(self, text: str, names: tuple[str, ...]) -> None:
        root = ElementTree.fromstring(text)
        self.names = names
        self.joints = {joint.find("child").get("link"): joint for joint in root.findall("joint")}
        self.solids = [
            solid(link.get("name"), collision)
            for link in root.findall("link")
            for collision in link.findall("collision")
        ]

    def place(self, posture: Array) -> list[Array]:
        """Return the pose (4, 4) of each solid."""
        values = dict(zip(self.names, posture, strict=True))
        poses: dict[str, Array] = {}
        return [self._link(s.link, values, poses) @ s.pose for s in self.solids]

    def _link(self, link: str, values: dict[str, float], poses: dict[str, Array]) -> Array:
        if link not in self.joints:
            return np.eye(4)
        if link not in poses:
            joint = self.joints[link]
            above = self._link(joint.find("parent").get("link"), values, poses)
            poses[link] = above @ origin(joint) @ motion(joint, values)
        return poses[link]


def solid(link: str, collision: ElementTree.Element) -> Solid:
    box = collision.find("geometry/box")
    if box is not None:
        half = np.array(box.get("size").split(), dtype=float) / 2
        return Solid(link, False, half, origin(collision))
    cylinder = collision.find("geometry/cylinder")
    radius, length = float(cylinder.get("radius")), float(cylinder.get("length"))
    return Solid(link, True, np.array([radius, radius, length / 2]), origin(collision))


def origin(element: ElementTree.Element) -> Array:
    found = element.find("origin")
    xyz = "0 0 0" if found is None else found.get("xyz", "0 0 0")
    rpy = "0 0 0" if found is None else found.get("rpy", "0 0 0")
    roll, pitch, yaw = (float(angle) for angle in rpy.split())
    pose = np.eye(4)
    pose[:3, :3] = turn([0, 0, 1], yaw) @ turn([0, 1, 0], pitch) @ turn([1, 0, 0], roll)
    pose[:3, 3] = [float(x) for x in xyz.split()]
    return pose


def motion(joint: ElementTree.Element, values: dict[str, float]) -> Array:
    """Return what the joint adds at its value, or at that of the joint it mimics."""
    pose = np.eye(4)
    if joint.get("type") == "fixed":
        return pose
    mimic = joint.find("mimic")
    value = values.get(joint.get("name"), 0.0)
    if mimic is not None:
        value = values[mimic.get("joint")] * float(mimic.get("multiplier", 1))
        value += float(mimic.get("offset", 0))
    axis = np.array([float(x) for x in joint.find("axis").get("xyz").split()])
    if joint.get("type") == "prismatic":
        pose[:3, 3] = axis * value
    else:
        pose[:3, :3] = turn(axis, value)
    return pose


def turn(axis: object, angle: float) -> Array:
    """Rodrigues' formula."""
    x, y, z = np.asarray(axis, dtype=float)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def nearest(half: Array, is_round: NDArray[np.bool_], pose: Array, points: Array) -> Array:
    """Return the points of N solids that are nearest to N points (N, 3)."""
    local = np.einsum("nji,nj->ni", pose[:, :3, :3], points - pose[:, :3, 3])
    inside = np.clip(local, -half, half)
    reach = np.linalg.norm(local[:, :2], axis=1)
    shrink = np.minimum(1.0, half[:, 0] / np.maximum(reach, 1e-12))
    inside[is_round, :2] = local[is_round, :2] * shrink[is_round, None]
    return np.einsum("nij,nj->ni", pose[:, :3, :3], inside) + pose[:, :3, 3]


def separations(
    first: tuple[Array, NDArray[np.bool_], Array],
    second: tuple[Array, NDArray[np.bool_], Array],
    steps: int = 400,
) -> Array:
    """Return the distances (N,) of N pairs of solids, 0 where they overlap.

    Alternating projections between two compact convex sets end at a nearest pair of points
    (Cheney and Goldstein 1959); the distance falls towards the true one from above.
    """
    points = second[2][:, :3, 3]
    for _ in range(steps):
        mine = nearest(*first, points)
        points = nearest(*second, mine)
    return np.linalg.norm(points - mine, axis=1)


def heights(half: Array, is_round: NDArray[np.bool_], pose: Array) -> Array:
    """Return how high the lowest point of each of N solids lies."""
    up = pose[:, 2, :3]
    box = (np.abs(up) * half).sum(axis=1)
    rim = half[:, 0] * np.linalg.norm(up[:, :2], axis=1) + half[:, 2] * np.abs(up[:, 2])
    return pose[:, 2, 3] - np.where(is_round, rim, box)


def table_distances(arms: Arms, row: Array, finger: bool | None = None) -> dict[str, float]:
    """Return link -> distance to the table, of every link or of (other than) fingers."""
    half, is_round = solid_arrays(arms)
    low = heights(half, is_round, np.array(arms.place(row)))
    distances: dict[str, float] = {}
    for s, height in zip(arms.solids, low, strict=True):
        if finger is None or ("finger" in s.link) == finger:
            distances[s.link] = min(float(height), distances.get(s.link, np.inf))
    return distances


def solid_arrays(arms: Arms) -> tuple[Array, NDArray[np.bool_]]:
    return np.array([s.half for s in arms.solids]), np.array([s.round for s in arms.solids])


def brute_force(arms: Arms, pairs: dict[tuple[str, str], float], row: Array) -> dict:
    """Return the distance of every pair of links that might be too close."""
    half, is_round = solid_arrays(arms)
    pose, links = np.array(arms.place(row)), [s.link for s in arms.solids]
    i, j = np.array(
        [
            (a, b)
            for a in range(len(links))
            for b in range(a + 1, len(links))
            if (links[a], links[b]) in pairs
        ]
    ).T
    reach = np.linalg.norm(half, axis=1)
    apart = np.linalg.norm(pose[i, :3, 3] - pose[j, :3, 3], axis=1) - reach[i] - reach[j]
    i, j = i[apart < 0.05], j[apart < 0.05]
    found = separations((half[i], is_round[i], pose[i]), (half[j], is_round[j], pose[j]))
    distances: dict[tuple[str, str], float] = {}
    for a, b, distance in zip(i, j, found, strict=True):
        key = links[a], links[b]
        distances[key] = min(float(distance), distances.get(key, np.inf))
    for link, height in table_distances(arms, row).items():
        if (link, TABLE) in pairs:
            distances[link, TABLE] = height
    return distances


def random_postures(count: int, seed: int, spread: float = 1.0) -> Array:
    """Within the limits, a share ``spread`` of the way from home."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(LIMITS.lower, LIMITS.upper, (count, len(JOINT_NAMES)))
    return HOME + spread * (drawn - HOME)
