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
HULL = "/hull"


@dataclass(frozen=True)
class Distances:
    """What each kind of pair must keep [m].

    The defaults refuse no demonstration and no chunk of the shipped policy in the three tasks.
    Commanded there, at the closest (150 demonstrations, half with 20 mrad of noise; 334 episodes
    of the policy): different arms 12 mm in an episode that fails, 53 mm in all others; one arm
    14 mm; other links and the table 25 mm; fingers 46 mm below the top of the table. That deep
    the policy's commands press while the table holds the fingers (measured: 9 mm); the
    demonstrations press 5 mm at most.

    Attributes:
        arms_m: links of different arms; an arm and what else is fixed to the world.
        own_m: links of one arm, and its own base. The shipped one folds link3 and link5 to 13 mm.
        table_m: a link and the table, fingers excepted.
        fingers_m: a finger and the table; negative: how deep a command may press. Raise it for
            an arm that is stiff.
    """

    arms_m: float = 0.01
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
    """Return the compiled model and the links with shapes, by number.

    A shape is named after its link, :func:`link_of`. Pairs are of the capsules around the shapes,
    named as the shape with :data:`HULL` behind, and of the table.
    """
    try:
        spec = mujoco.MjSpec.from_string(robot.skeleton)
        links = [link for link, shapes in robot.shapes.items() if shapes]
        for link in links:
            for k, shape in enumerate(robot.shapes[link]):
                _add_shape(spec, link, f"{link}/{k}", shape)
        _add_hulls(spec)
        if table_height_m is not None:
            _add_table(spec, table_height_m)
            links.append(TABLE)
        _add_pairs(spec, links, allowed(robot, links, distances))
        spec.option.ccd_iterations = 200
        spec.memory = 16 << 20  # contacts of every pair at once; reserved, not used
        return spec.compile(), links
    except (ValueError, RuntimeError) as error:
        _blame_mesh(robot)
        raise CollisionModelError(
            f"MuJoCo cannot build the robot ({error}); mend the URDF, {REMEDY}"
        ) from error


def link_of(geom: str) -> str:
    """Return the link that a geom belongs to; the table is its own."""
    return geom if geom == TABLE else geom.removesuffix(HULL).rpartition("/")[0]


def _add_shape(spec: mujoco.MjSpec, link: str, name: str, shape: Shape) -> None:
    """Add a shape that touches nothing but what a pair names."""
    kinds, quaternion = mujoco.mjtGeom, np.zeros(4)
    mujoco.mju_euler2Quat(quaternion, np.array(shape.rpy), "XYZ")
    geom = _body(spec, link).add_geom(
        name=name, pos=shape.xyz, quat=quaternion, contype=0, conaffinity=0
    )
    if shape.kind == "box":
        geom.type, geom.size = kinds.mjGEOM_BOX, np.array(shape.size) / 2
    elif shape.kind == "cylinder":
        radius, length = shape.size
        geom.type, geom.size = kinds.mjGEOM_CYLINDER, [radius, length / 2, 0]
    elif shape.kind == "sphere":
        geom.type, geom.size = kinds.mjGEOM_SPHERE, [shape.size[0], 0, 0]
    else:
        geom.type, geom.meshname = kinds.mjGEOM_MESH, name
        _add_mesh(spec, name, shape)


def _add_mesh(spec: mujoco.MjSpec, name: str, shape: Shape) -> None:
    mesh = spec.add_mesh(name=name, file=str(shape.file), scale=shape.size)
    mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX


def _add_hulls(spec: mujoco.MjSpec) -> None:
    """Put a capsule around each shape: between capsules MuJoCo's contacts miss nothing.

    Its contacts of boxes that are only close are lost, those of other convex shapes come from
    shapes rounded by the margin and may be wrong by centimetres.
    """
    model = spec.compile()
    for number in range(model.ngeom):
        geom = spec.geom(model.geom(number).name)
        start, end, radius = _capsule(model, number)
        geom.parent.add_geom(
            name=geom.name + HULL, type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=[radius, 0, 0],
            fromto=[*start, *end], contype=0, conaffinity=0,
        )  # fmt: skip


def _capsule(model: mujoco.MjModel, number: int) -> tuple[Array, Array, float]:
    """Return ends (3,), (3,) and radius of a capsule around a geom, in its body [m]."""
    middle, half = model.geom_aabb[number, :3], model.geom_aabb[number, 3:]
    if model.geom_type[number] == mujoco.mjtGeom.mjGEOM_CYLINDER:
        axis, radius = 2, float(half[0])
    else:  # around the longest axis of the bounding box
        axis = int(np.argmax(half))
        radius = float(np.linalg.norm(np.delete(half, axis)))
    along, rotation = np.zeros(3), np.zeros(9)
    along[axis] = half[axis]
    mujoco.mju_quat2Mat(rotation, model.geom_quat[number])
    turned, origin = rotation.reshape(3, 3), model.geom_pos[number]
    ends = origin + turned @ (middle - along), origin + turned @ (middle + along)
    return *ends, radius * (1 + 1e-6)


def _add_table(spec: mujoco.MjSpec, height_m: float) -> None:
    """Add the plane z = ``height_m`` of base_link."""
    _body(spec, "base_link").add_geom(
        name=TABLE, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 1], pos=[0, 0, height_m],
        contype=0, conaffinity=0,
    )  # fmt: skip


def _body(spec: mujoco.MjSpec, link: str) -> mujoco.MjsBody:
    """Return the body of a link; MuJoCo may take a root link for its world."""
    return spec.body(link) or spec.worldbody


def _add_pairs(spec: mujoco.MjSpec, links: list[str], bounds: Array) -> None:
    """Let MuJoCo look at the pairs that count, as far away as each must stay."""
    geoms = [
        (geom.name, links.index(link_of(geom.name)))
        for body in spec.bodies
        for geom in body.geoms
        if geom.name.endswith(HULL) or geom.name == TABLE
    ]
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
