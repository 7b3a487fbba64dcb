"""The robot's collision shapes and the table as a MuJoCo model, and which pairs of them count."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.collision_urdf import REMEDY, CollisionModelError, Robot, Shape

Array = NDArray[np.float64]

TABLE = "table"

_CORNERS = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))


@dataclass(frozen=True)
class Distances:
    """What each kind of pair must keep [m].

    The defaults refuse no demonstration and no chunk of the shipped policy in the three tasks.
    Commanded there, at the closest (150 demonstrations, half with 20 mrad of noise; 124 episodes
    of the policy): different arms 57 mm, one arm 15 mm, table 25 mm, fingers 46 mm below the top
    of the table. That deep the policy's commands press while the table holds the fingers
    (measured: 9 mm); the demonstrations press 5 mm at most.

    Attributes:
        arms_m: links of different arms; an arm and what else is fixed to the world.
        own_m: links of one arm, and its own base. The shipped one folds link3 and link5 to 13 mm.
        table_m: a link and the table, fingers excepted.
        fingers_m: a finger and the table; negative: how deep a command may press. Raise it for
            an arm that is stiff.
    """

    arms_m: float = 0.02
    own_m: float = 0.01
    table_m: float = 0.01
    fingers_m: float = -0.06

    def within(self, minimum_m: float) -> Distances:
        """Return them with ``minimum_m`` between the arms and nowhere more than that."""
        own, table = min(self.own_m, minimum_m), min(self.table_m, minimum_m)
        return Distances(minimum_m, own, table, min(self.fingers_m, minimum_m))


def build(
    robot: Robot, distances: Distances, table_height_m: float | None
) -> tuple[mujoco.MjModel, list[str]]:
    """Return the compiled model and the links with shapes; geom_user holds a geom's link."""
    try:
        spec = mujoco.MjSpec.from_string(robot.skeleton)
        links = [link for link, shapes in robot.shapes.items() if shapes]
        for number, link in enumerate(links):
            for k, shape in enumerate(robot.shapes[link]):
                _add_shape(spec, link, f"{link}/{k}", shape, number)
        if table_height_m is not None:
            _add_table(spec, table_height_m, len(links))
            links.append(TABLE)
        _add_pairs(spec, allowed(robot, links, distances))
        spec.option.ccd_iterations = 200
        spec.memory = 16 << 20  # contacts of every pair at once; reserved, not used
        return spec.compile(), links
    except (ValueError, RuntimeError) as error:
        _blame_mesh(robot)
        raise CollisionModelError(
            f"MuJoCo cannot build the robot ({error}); mend the URDF, {REMEDY}"
        ) from error


def _add_shape(spec: mujoco.MjSpec, link: str, name: str, shape: Shape, number: int) -> None:
    """Add a shape that touches nothing but what a pair names."""
    kinds, quaternion = mujoco.mjtGeom, np.zeros(4)
    mujoco.mju_euler2Quat(quaternion, np.array(shape.rpy), "XYZ")
    geom = _body(spec, link).add_geom(
        name=name, pos=shape.xyz, quat=quaternion, contype=0, conaffinity=0, userdata=[number]
    )
    if shape.kind == "cylinder":
        radius, length = shape.size
        geom.type, geom.size = kinds.mjGEOM_CYLINDER, [radius, length / 2, 0]
    elif shape.kind == "sphere":
        geom.type, geom.size = kinds.mjGEOM_SPHERE, [shape.size[0], 0, 0]
    else:
        # Boxes as meshes too: MuJoCo's box against box ignores boxes that are only close.
        geom.type, geom.meshname = kinds.mjGEOM_MESH, name
        _add_mesh(spec, name, shape)


def _add_mesh(spec: mujoco.MjSpec, name: str, shape: Shape) -> None:
    mesh = spec.add_mesh(name=name)
    mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
    if shape.kind == "box":
        mesh.uservert = (_CORNERS * shape.size).ravel()
    else:
        mesh.file, mesh.scale = str(shape.file), shape.size


def _add_table(spec: mujoco.MjSpec, height_m: float, number: int) -> None:
    """Add the plane z = ``height_m`` of base_link."""
    _body(spec, "base_link").add_geom(
        name=TABLE, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 1], pos=[0, 0, height_m],
        contype=0, conaffinity=0, userdata=[number],
    )  # fmt: skip


def _body(spec: mujoco.MjSpec, link: str) -> mujoco.MjsBody:
    """Return the body of a link; MuJoCo may take a root link for its world."""
    return spec.body(link) or spec.worldbody


def _add_pairs(spec: mujoco.MjSpec, bounds: Array) -> None:
    """Let MuJoCo look at the pairs that count, as far away as each must stay."""
    geoms = [(geom.name, int(geom.userdata[0])) for body in spec.bodies for geom in body.geoms]
    for (one, i), (other, j) in itertools.combinations(geoms, 2):
        bound = bounds[min(i, j), max(i, j)]
        if np.isfinite(bound):
            margin = max(float(bound), 0.0)
            spec.add_pair(geomname1=one, geomname2=other, margin=margin, condim=1)


def allowed(robot: Robot, links: list[str], distances: Distances) -> Array:
    """Return (L, L), above the diagonal: what a pair must keep; -inf where it does not count."""
    bounds = np.full((len(links), len(links)), -np.inf)
    for i, j in itertools.combinations(range(len(links)), 2):
        bounds[i, j] = _bound(robot, links[i], links[j], distances)
    return bounds


def _bound(robot: Robot, first: str, second: str, distances: Distances) -> float:
    if second == TABLE:
        if not robot.sources(first):
            return -np.inf
        return distances.fingers_m if robot.is_finger(first) else distances.table_m
    if len(robot.between(first, second)) <= 1:
        return -np.inf
    return distances.own_m if robot.one_arm(first, second) else distances.arms_m


def _blame_mesh(robot: Robot) -> None:
    """Say which link's mesh MuJoCo cannot read, if it is one."""
    for link, shape in ((link, s) for link, shapes in robot.shapes.items() for s in shapes):
        if shape.kind != "mesh":
            continue
        spec = mujoco.MjSpec()
        _add_mesh(spec, "mesh", shape)
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="mesh")
        try:
            spec.compile()
        except (ValueError, RuntimeError) as error:
            raise CollisionModelError(
                f"link {link!r}: MuJoCo cannot use its collision mesh {shape.file} ({error}); "
                f"mend it, give the link a primitive shape, {REMEDY}"
            ) from error
