"""Links, joints and collision shapes of a URDF, as far as collision checks need them."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
