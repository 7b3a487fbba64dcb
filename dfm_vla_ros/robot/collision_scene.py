"""The robot's collision shapes and the table as a MuJoCo model, and which pairs of them count."""

from __future__ import annotations

import itertools
import os
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.robot.model import RobotModel, UrdfError

Array = NDArray[np.float64]

REMEDY = "or set minimum_distance to 0, which switches the collision check off"
MESH_FORMATS = (".stl", ".obj", ".msh")
TABLE = "table"
HULL = "/hull"


@dataclass(frozen=True)
class Shape:
    """One <collision> of a link.

    Attributes:
        kind: "box", "cylinder", "sphere" or "mesh".
        size: box: its three edges; cylinder: radius, length; sphere: radius; mesh: scale (3). [m]
        xyz, rpy: pose in the link [m, rad], angles about the fixed axes x, y, z.
        file: of a mesh.
    """

    kind: str
    size: tuple[float, ...]
    xyz: tuple[float, ...]
    rpy: tuple[float, ...]
    file: Path | None = None


def shapes_of(robot: RobotModel) -> dict[str, tuple[Shape, ...]]:
    """Return link -> its collision shapes, in the order of the file.

    Raises:
        UrdfError: the links are no tree, a shape cannot be used, or a commanded link has none.
    """
    elements = robot.link_elements
    shapes = {
        link: tuple(_shape(link, collision) for collision in element.findall("collision"))
        for link, element in elements.items()
        if link in robot.links
    }
    for link, found in shapes.items():
        moves = robot.sources(link) & set(robot.joint_names)
        if moves and elements[link].find("visual") is not None and not found:
            raise UrdfError(
                f"link {link!r} moves and is drawn but has no <collision> shape; "
                f"give it one, {REMEDY}"
            )
    for name in robot.joint_names:
        if not any(found for link, found in shapes.items() if name in robot.sources(link)):
            raise UrdfError(
                f"link {robot.joints[name].child!r}, moved by joint {name!r}, and the links it "
                f"carries have no <collision> shape; give them one, {REMEDY}"
            )
    return shapes


def _shape(link: str, collision: ElementTree.Element) -> Shape:
    """Return one shape, or say which link has one that cannot be used."""
    geometry, origin = collision.find("geometry/*"), collision.find("origin")
    kind = "nothing" if geometry is None else geometry.tag
    pose = {} if origin is None else origin.attrib
    try:
        ends = _triple(pose.get("xyz", "0 0 0")), _triple(pose.get("rpy", "0 0 0"))
        if kind == "box":
            return Shape(kind, _triple(geometry.attrib["size"]), *ends)
        if kind == "cylinder":
            size = float(geometry.attrib["radius"]), float(geometry.attrib["length"])
            return Shape(kind, size, *ends)
        if kind == "sphere":
            return Shape(kind, (float(geometry.attrib["radius"]),), *ends)
        if kind == "mesh":
            file = _mesh_file(link, geometry.attrib["filename"])
            return Shape(kind, _triple(geometry.get("scale", "1 1 1")), *ends, file)
    except (KeyError, ValueError) as error:
        raise UrdfError(
            f"link {link!r}: unusable <collision> ({error!r}); mend it, {REMEDY}"
        ) from error
    raise UrdfError(
        f"link {link!r}: its <collision> is no box, cylinder, sphere or mesh; mend it, {REMEDY}"
    )


def _triple(text: str) -> tuple[float, ...]:
    numbers = tuple(float(word) for word in text.split())
    if len(numbers) != 3:
        raise ValueError(f"{text!r} is not three numbers")
    return numbers


def _mesh_file(link: str, uri: str) -> Path:
    """Return the file of a mesh: ``package://`` (AMENT_PREFIX_PATH), ``file://`` or a path."""
    candidates = [Path(uri.removeprefix("file://"))]
    if uri.startswith("package://"):
        prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
        inside = uri.removeprefix("package://")
        candidates = [Path(prefix) / "share" / inside for prefix in prefixes if prefix]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        searched = ", ".join(map(str, candidates)) or "an empty AMENT_PREFIX_PATH"
        raise UrdfError(
            f"link {link!r}: its collision mesh {uri!r} is not found; searched {searched}. "
            f"Source the workspace that holds it, give the link a primitive shape, {REMEDY}"
        )
    if found.suffix.lower() not in MESH_FORMATS:
        raise UrdfError(
            f"link {link!r}: its collision mesh {uri!r} is none of {', '.join(MESH_FORMATS)}; "
            f"convert it, give the link a primitive shape, {REMEDY}"
        )
    return found.resolve()


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
    robot: RobotModel, distances: Distances, table_height_m: float | None
) -> tuple[mujoco.MjModel, list[str], Array]:
    """Return the compiled model, the links with shapes, by number, and what pairs must keep.

    The last is (L, L) [m], above the diagonal; -inf where a pair does not count.

    A shape is named after its link, :func:`link_of`. Pairs are of the capsules around the shapes,
    named as the shape with :data:`HULL` behind, and of the table.
    """
    shapes = shapes_of(robot)
    links = [link for link, found in shapes.items() if found]
    try:
        spec = robot.spec()
        for link in links:
            for k, shape in enumerate(shapes[link]):
                _add_shape(spec, link, f"{link}/{k}", shape)
        _add_hulls(spec)
        if table_height_m is not None:
            _add_table(spec, table_height_m)
            links.append(TABLE)
        bounds = _bounds(robot, links, distances)
        _add_pairs(spec, links, bounds)
        spec.option.ccd_iterations = 200
        spec.memory = 16 << 20  # contacts of every pair at once; reserved, not used
        return spec.compile(), links, bounds
    except (ValueError, RuntimeError) as error:
        _name_broken_mesh(shapes)
        raise UrdfError(
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


def _bounds(robot: RobotModel, links: list[str], distances: Distances) -> Array:
    bounds = np.full((len(links), len(links)), -np.inf)
    for i, j in itertools.combinations(range(len(links)), 2):
        bounds[i, j] = _bound(robot, links[i], links[j], distances)
    return bounds


def _bound(robot: RobotModel, first: str, second: str, distances: Distances) -> float:
    if second == TABLE:
        if not robot.moving(first):
            return -np.inf
        return distances.fingers_m if _is_finger(robot, first) else distances.table_m
    one, other = robot.path(first), robot.path(second)
    apart = [j for j in one if j not in other] + [j for j in other if j not in one]
    if len({joint.source for joint in apart} - {None}) <= 1:
        return -np.inf
    return distances.own_m if _of_one_arm(robot, first, second) else distances.arms_m


def _of_one_arm(robot: RobotModel, first: str, second: str) -> bool:
    """Return whether a joint carries both links, or one is the base that the other is on."""
    one, other = robot.moving(first), robot.moving(second)
    if one and other:
        return one[-1] is other[-1]
    return any(path and path[-1].parent in (first, second) for path in (one, other))


def _is_finger(robot: RobotModel, link: str) -> bool:
    """Return whether a prismatic joint moves ``link`` at the end of an arm."""
    moving = robot.moving(link)
    if len(robot.sources(link)) < 2 or moving[0].kind != "prismatic":
        return False
    carried = (j for j in robot.joints.values() if j.source is not None)
    return not any(link in {above.parent for above in robot.path(j.child)} for j in carried)


def _name_broken_mesh(shapes: dict[str, tuple[Shape, ...]]) -> None:
    """Raise UrdfError if MuJoCo cannot read one of the meshes."""
    for link, shape in ((link, shape) for link, found in shapes.items() for shape in found):
        if shape.kind != "mesh":
            continue
        spec = mujoco.MjSpec()
        _add_mesh(spec, "mesh", shape)
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="mesh")
        try:
            spec.compile()
        except (ValueError, RuntimeError) as error:
            raise UrdfError(
                f"link {link!r}: MuJoCo cannot use its collision mesh {shape.file} ({error}); "
                f"mend it, give the link a primitive shape, {REMEDY}"
            ) from error
