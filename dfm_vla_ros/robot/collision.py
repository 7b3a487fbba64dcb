"""Distances between the arms, within each arm and to the table, from the URDF's own shapes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.chunks import ChunkRefused, Verdict
from dfm_vla_ros.robot.collision_scene import HULL, REMEDY, Distances, build, link_of
from dfm_vla_ros.robot.model import RobotModel, UrdfError
from dfm_vla_ros.robot.spline import Spline

Array = NDArray[np.float64]

SAME_M = 1e-6
"""Distances that differ by less are the same."""


@dataclass(frozen=True)
class Breach:
    """Two bodies that come closer than allowed.

    Attributes:
        first, second: names of the bodies.
        distance_m: the smallest distance of any pair at row ``index``; negative: they overlap [m].
        allowed_m: the distance to keep [m].
        index: row of the positions that were checked.
    """

    first: str
    second: str
    distance_m: float
    allowed_m: float
    index: int


class Clearance(Protocol):
    """Knows the bodies of the robot and of what stands around it."""

    def check(self, positions: Array) -> Breach | None:
        """Return the closest approach among ``positions`` (M, D), None if all are allowed.

        Args:
            positions: M postures [rad], grippers [m], in the order of the joint limits.

        Returns:
            The breach of the smallest distance over all rows; of equal ones the first.
        """

    def breaches(self, positions: Array) -> list[Breach]:
        """Return the closest approach of each pair that comes too close, as :meth:`check`."""


def check_clearance(motion: Spline, clearance: Clearance, parts: int = 4) -> None:
    """Refuse a motion that brings two bodies too close, at its waypoints or between.

    A pair that is too close at the start may stay so as long as it comes no closer: else the arms
    could never leave.

    Args:
        motion: from its start on.
        clearance: what is around.
        parts: samples a segment.

    Raises:
        ChunkRefused: names both bodies, distance, bound and time.
    """
    times, positions = motion.sampled(parts)
    if clearance.check(positions) is None:
        return
    at_start = {(b.first, b.second): b.distance_m for b in clearance.breaches(positions[:1])}
    closer = [
        found
        for found in clearance.breaches(positions)
        if found.distance_m < at_start.get((found.first, found.second), np.inf) - SAME_M
    ]
    if not closer:
        return
    breach = min(closer, key=lambda found: found.distance_m)
    raise ChunkRefused(
        Verdict.COLLISION,
        f"{breach.first} and {breach.second} would come within {breach.distance_m:.4f} m, allowed "
        f"is {breach.allowed_m} m, {times[breach.index]:.2f} s after the start: lead the arms "
        "another way",
    )


REACH_M = 1e-3
"""How far beyond the bound a distance is still worked out."""
POSTURES_TRIED = 256
"""Pairs of links that are too close in every one of so many random postures do not count."""

DEFAULT_DISTANCES = Distances()


class CollisionModel:
    """Checks postures against the distances that links must keep (a ``Clearance``).

    Not counted are pairs that at most one joint moves against each other (its limits keep them
    apart: neighbours, the two fingers), pairs fixed to each other, and pairs that overlap by
    construction (:data:`POSTURES_TRIED`). Everything fixed may touch the table, which is the
    half-space below its top. A mesh counts as its convex hull.

    MuJoCo finds the pairs whose bounding capsules are close, then works out the distance of their
    shapes: that of separate ones within 1e-6 m (GJK), of overlapping ones the depth (EPA),
    negative. Not thread-safe.
    """

    def __init__(
        self,
        robot: RobotModel,
        minimum_distance_m: float = DEFAULT_DISTANCES.arms_m,
        table_height_m: float | None = 0.0,
        distances: Distances = DEFAULT_DISTANCES,
    ) -> None:
        """Build the model.

        Args:
            robot: D joints move; see its postures.
            minimum_distance_m: > 0, replaces ``distances.arms_m`` and bounds the other distances.
            table_height_m: top of the table in ``base_link`` (else in the root); None: no table.
            distances: what the kinds of pairs must keep.

        Raises:
            UrdfError: a shape or a mesh is missing or unusable (the link is named), or
                the minimum is not a positive number.
        """
        if not (np.isfinite(minimum_distance_m) and minimum_distance_m > 0):
            raise UrdfError(
                f"minimum_distance is {minimum_distance_m} m; give a positive number, {REMEDY}"
            )
        self.distances = distances.within(minimum_distance_m)
        self._robot = robot
        self._model, self._links, bounds = build(robot, self.distances, table_height_m)
        self._bounds = bounds.tolist()
        self._data = mujoco.MjData(self._model)
        names = [self._model.geom(number).name for number in range(self._model.ngeom)]
        self._link = [self._links.index(link_of(name)) for name in names]
        # The shape that each hull is around.
        self._shape = [names.index(name.removesuffix(HULL)) for name in names]
        self._forgive_construction()

    @property
    def pairs(self) -> dict[tuple[str, str], float]:
        """The pairs of links that count, and what each must keep [m]."""
        return {
            (self._links[i], self._links[j]): self._bounds[i][j]
            for i, j in itertools.combinations(range(len(self._links)), 2)
            if self._bounds[i][j] > -np.inf
        }

    def check(self, positions: Array) -> Breach | None:
        """Return the closest approach among ``positions`` (M, D), None if all are allowed.

        Args:
            positions: M postures [rad], grippers [m], in the order of ``joint_names``.

        Returns:
            The breach of the smallest distance over all rows; of equal ones the first.

        Raises:
            UrdfError: the shape is wrong or a number is not finite.
        """
        worst = min(self._breaches(positions), key=lambda found: found[3], default=None)
        return None if worst is None else self._breach(*worst)

    def breaches(self, positions: Array) -> list[Breach]:
        """Return the closest approach of each pair that comes too close, as :meth:`check`."""
        worst: dict[tuple[int, int], tuple[int, int, int, float]] = {}
        for found in self._breaches(positions):
            pair = found[1:3]
            if pair not in worst or found[3] < worst[pair][3]:
                worst[pair] = found
        return [self._breach(*found) for found in worst.values()]

    def _breach(self, row: int, i: int, j: int, distance_m: float) -> Breach:
        return Breach(self._links[i], self._links[j], distance_m, self._bounds[i][j], row)

    def _breaches(self, positions: Array) -> Iterator[tuple[int, int, int, float]]:
        """Yield row, first link, second link and distance of every breach."""
        model, data, postures = self._model, self._data, self._postures(positions)
        for row, posture in enumerate(postures):
            data.qpos[:] = posture
            mujoco.mj_kinematics(model, data)
            mujoco.mj_collision(model, data)
            for one, other in data.contact.geom.tolist() if data.ncon else ():
                i, j = self._link[one], self._link[other]
                i, j = (i, j) if i < j else (j, i)
                bound = self._bounds[i][j]
                if bound == -np.inf:
                    continue
                reach, shapes = max(bound, 0.0) + REACH_M, (self._shape[one], self._shape[other])
                distance = mujoco.mj_geomDistance(model, data, *shapes, reach, None)
                if distance < bound:
                    yield row, i, j, distance

    def _postures(self, positions: Array) -> Array:
        """Return MuJoCo's joint vectors (M, nq)."""
        names = self._robot.joint_names
        positions = np.asarray(positions, dtype=np.float64)
        if positions.ndim != 2 or positions.shape[1] != len(names):
            raise UrdfError(f"postures have shape {positions.shape}, expected (M, {len(names)})")
        broken = np.argwhere(~np.isfinite(positions))
        if broken.size:
            row, joint = broken[0]
            raise UrdfError(
                f"posture {row}: {names[joint]} is {positions[row, joint]}, not finite"
            )
        return self._robot.postures(positions)

    def _forgive_construction(self) -> None:
        """Stop counting pairs that are too close in every posture tried."""
        joints = [self._model.joint(name) for name in self._robot.joint_names]
        ranges = np.array([j.range if j.limited[0] else (-np.pi, np.pi) for j in joints])
        rng = np.random.default_rng(0)
        tried = rng.uniform(ranges[:, 0], ranges[:, 1], (POSTURES_TRIED, len(joints)))
        rows = Counter((i, j) for _, i, j in {found[:3] for found in self._breaches(tried)})
        for (i, j), count in rows.items():
            if count == POSTURES_TRIED:
                self._bounds[i][j] = -np.inf
