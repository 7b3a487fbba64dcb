"""The robot's collision shapes and the table as a MuJoCo model, and which pairs of them count."""

from __future__ import annotations

import itertools
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError

REMEDY = "or set minimum_distance to 0, which switches the collision check off"
MESH_FORMATS = (".stl", ".obj", ".msh")


class CollisionModelError(DfmVlaError):
    """No collision model can be made of the URDF, or postures are not what it knows."""


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


@dataclass(frozen=True)
class Joint:
    """A joint; ``source`` drives it: itself or the joint it mimics, None if it is fixed."""

    name: str
    kind: str
    parent: str
    child: str
    source: str | None
    multiplier: float = 1.0
    offset: float = 0.0


class Robot:
    """The kinematic tree of a URDF with its collision shapes.

    Attributes:
        joints: by name.
        shapes: link -> its collision shapes, in the order of the file.
        skeleton: the URDF with nothing but links and joints, for MuJoCo's own reader.
    """

    def __init__(self, text: str, joint_names: Sequence[str]) -> None:
        """Read ``text``, a URDF with its xacro expanded.

        Raises:
            CollisionModelError: it is no XML, a joint is missing, a mesh cannot be read, or a
                commanded link has no collision shape.
        """
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise CollisionModelError(
                f"the robot description is no XML ({error}); expand the xacro, {REMEDY}"
            ) from error
        self.joints = {joint.get("name", ""): _joint(joint) for joint in root.findall("joint")}
        missing = [name for name in joint_names if name not in self.joints]
        if missing:
            raise CollisionModelError(
                f"the URDF has no joint {missing[0]!r}; it has {sorted(self.joints)}"
            )
        self._above = {joint.child: joint for joint in self.joints.values()}
        links = {link.get("name", ""): link for link in root.findall("link")}
        self.shapes = {name: _shapes(name, link) for name, link in links.items()}
        for name, link in links.items():
            self._check_drawn(name, link, set(joint_names))
        for name in joint_names:
            self._check_moves_something(name)
        self.skeleton = _skeleton(root)

    def path(self, link: str) -> list[Joint]:
        """Return the joints from ``link`` up to the root."""
        joints = []
        while link in self._above:
            joints.append(self._above[link])
            link = joints[-1].parent
        return joints

    def sources(self, link: str) -> set[str]:
        """Return the joints that move ``link`` when they alone are commanded."""
        return {joint.source for joint in self._moving(link) if joint.source is not None}

    def between(self, first: str, second: str) -> set[str]:
        """Return the joints that move one of two links against the other."""
        one, other = self.path(first), self.path(second)
        apart = [j for j in one if j not in other] + [j for j in other if j not in one]
        return {joint.source for joint in apart if joint.source is not None}

    def one_arm(self, first: str, second: str) -> bool:
        """Return whether a joint carries both links, or one is the base that the other is on."""
        one, other = self._moving(first), self._moving(second)
        if one and other:
            return one[-1] is other[-1]
        return any(path and path[-1].parent in (first, second) for path in (one, other))

    def is_finger(self, link: str) -> bool:
        """Return whether a prismatic joint moves ``link`` at the end of an arm."""
        moving = self._moving(link)
        if len(self.sources(link)) < 2 or moving[0].kind != "prismatic":
            return False
        return not any(self._carries(link, joint) for joint in self.joints.values())

    def _moving(self, link: str) -> list[Joint]:
        return [joint for joint in self.path(link) if joint.source is not None]

    def _carries(self, link: str, joint: Joint) -> bool:
        """Return whether ``joint`` moves something and hangs on ``link``."""
        mounts = {above.parent for above in self.path(joint.child)}
        return joint.source is not None and link in mounts

    def _check_drawn(self, name: str, link: ElementTree.Element, commanded: set[str]) -> None:
        """Refuse a moving link that has a body to see but none to collide with."""
        drawn, moves = link.find("visual") is not None, self.sources(name) & commanded
        if drawn and moves and not self.shapes[name]:
            raise CollisionModelError(
                f"link {name!r} moves and is drawn but has no <collision> shape; "
                f"give it one, {REMEDY}"
            )

    def _check_moves_something(self, name: str) -> None:
        """Refuse a commanded joint that moves no shape."""
        moved = [link for link in self.shapes if name in self.sources(link)]
        if not any(self.shapes[link] for link in moved):
            raise CollisionModelError(
                f"link {self.joints[name].child!r}, moved by joint {name!r}, and the links it "
                f"carries have no <collision> shape; give them one, {REMEDY}"
            )


def _joint(element: ElementTree.Element) -> Joint:
    name, kind = element.get("name", ""), element.get("type", "")
    parent, child = element.find("parent"), element.find("child")
    if parent is None or child is None:
        raise CollisionModelError(f"joint {name!r} lacks <parent> or <child> in the URDF")
    ends = parent.get("link", ""), child.get("link", "")
    mimic = element.find("mimic")
    if kind == "fixed":
        return Joint(name, kind, *ends, None)
    if mimic is None:
        return Joint(name, kind, *ends, name)
    try:
        factor, offset = float(mimic.get("multiplier", 1.0)), float(mimic.get("offset", 0.0))
    except ValueError as error:
        raise CollisionModelError(f"joint {name!r}: unusable <mimic> ({error})") from error
    return Joint(name, kind, *ends, mimic.get("joint", ""), factor, offset)


def _shapes(link: str, element: ElementTree.Element) -> tuple[Shape, ...]:
    return tuple(_shape(link, collision) for collision in element.findall("collision"))


def _shape(link: str, collision: ElementTree.Element) -> Shape:
    """Return one shape, or say which link has one that cannot be used."""
    try:
        geometry = collision.find("geometry/*")
        origin = collision.find("origin")
        pose = {} if origin is None else origin.attrib
        xyz, rpy = _numbers(pose.get("xyz", "0 0 0")), _numbers(pose.get("rpy", "0 0 0"))
        if geometry is not None and geometry.tag == "box":
            return Shape("box", _numbers(geometry.attrib["size"]), xyz, rpy)
        if geometry is not None and geometry.tag == "cylinder":
            size = float(geometry.attrib["radius"]), float(geometry.attrib["length"])
            return Shape("cylinder", size, xyz, rpy)
        if geometry is not None and geometry.tag == "sphere":
            return Shape("sphere", (float(geometry.attrib["radius"]),), xyz, rpy)
        if geometry is not None and geometry.tag == "mesh":
            scale = _numbers(geometry.get("scale", "1 1 1"))
            return Shape("mesh", scale, xyz, rpy, _mesh_file(link, geometry.attrib["filename"]))
    except (KeyError, ValueError) as error:
        raise CollisionModelError(
            f"link {link!r}: unusable <collision> ({error!r}); mend it, {REMEDY}"
        ) from error
    raise CollisionModelError(
        f"link {link!r}: its <collision> is no box, cylinder, sphere or mesh; mend it, {REMEDY}"
    )


def _numbers(text: str) -> tuple[float, ...]:
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
        raise CollisionModelError(
            f"link {link!r}: its collision mesh {uri!r} is not found; searched {searched}. "
            f"Source the workspace that holds it, give the link a primitive shape, {REMEDY}"
        )
    if found.suffix.lower() not in MESH_FORMATS:
        raise CollisionModelError(
            f"link {link!r}: its collision mesh {uri!r} is none of {', '.join(MESH_FORMATS)}; "
            f"convert it, give the link a primitive shape, {REMEDY}"
        )
    return found.resolve()


def _skeleton(root: ElementTree.Element) -> str:
    """Return links and joints alone; MuJoCo wants a mass of what moves, any mass."""
    bare = ElementTree.Element("robot", {"name": root.get("name") or "robot"})
    compiler = {"fusestatic": "false", "discardvisual": "false", "balanceinertia": "true"}
    ElementTree.SubElement(ElementTree.SubElement(bare, "mujoco"), "compiler", compiler)
    for link in root.findall("link"):
        kept = ElementTree.SubElement(bare, "link", {"name": link.get("name", "")})
        inertial = ElementTree.SubElement(kept, "inertial")
        ElementTree.SubElement(inertial, "mass", {"value": "1"})
        moments = {"ixx": "1", "iyy": "1", "izz": "1", "ixy": "0", "ixz": "0", "iyz": "0"}
        ElementTree.SubElement(inertial, "inertia", moments)
    for joint in root.findall("joint"):
        kept = ElementTree.SubElement(bare, "joint", dict(joint.attrib))
        kept.extend(part for part in joint if part.tag in ("origin", "parent", "child", "axis"))
        kept.extend(part for part in joint if part.tag == "limit")
    return ElementTree.tostring(bare, encoding="unicode")


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
