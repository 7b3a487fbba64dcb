"""Where links are for given joints: forward kinematics of a URDF, for many postures at once."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import ARM_JOINTS, ARMS, JOINT_NAMES


def robot_description() -> str:
    """Return the URDF of the two arms: ``urdf/dual_arm.urdf.xacro``, expanded."""
    import xacro  # only where no description is given from outside

    return xacro.process_file(str(resource_path("urdf/dual_arm.urdf.xacro"))).toxml()


Array = NDArray[np.float64]

TIPS = tuple(f"{arm}_tcp" for arm in ARMS)
"""The link between the finger tips of each arm."""
TURNS = ("revolute", "continuous")


class KinematicsError(DfmVlaError):
    """The URDF is no tree of usable joints, or a link or posture does not fit it."""


@dataclass(frozen=True)
class _Joint:
    """A joint of the tree.

    Attributes:
        parent, child: links.
        origin: (4, 4) of the child in the parent at joint position 0.
        kind: "fixed", "prismatic" or one of TURNS.
        axis: (3,) unit vector in the child.
        source: column of the positions that drives it, None: it stays.
        multiplier, offset: of a mimic joint.
    """

    parent: str
    child: str
    origin: Array
    kind: str
    axis: Array
    source: int | None
    multiplier: float
    offset: float

    def transform(self, positions: Array) -> Array:
        """Return (B, 4, 4) of the child in the parent for ``positions`` (B, D)."""
        if self.kind == "fixed":
            return np.broadcast_to(self.origin, (len(positions), 4, 4))
        driver = 0.0 if self.source is None else positions[:, self.source]
        value = np.broadcast_to(self.multiplier * driver + self.offset, (len(positions),))
        motion = np.zeros((len(positions), 4, 4))
        motion[:, 3, 3] = 1.0
        if self.kind == "prismatic":
            motion[:, :3, :3] = np.eye(3)
            motion[:, :3, 3] = value[:, None] * self.axis
        else:
            motion[:, :3, :3] = rotations(self.axis, value)
        return self.origin @ motion


class Kinematics:
    """The tree of links.

    Attributes:
        root: the link that all poses are in.
        links: all of them, parents before children.
        parents: link -> its parent.
        fixed: links that never move in their parent.
        dimension: D, how many joints a posture has.
    """

    def __init__(self, urdf: str, joint_names: Sequence[str] = JOINT_NAMES) -> None:
        """Read ``urdf``, with its xacro expanded; other joints than ``joint_names`` stay at 0.

        Raises:
            KinematicsError: it is no XML, no tree, or lacks one of the joints.
        """
        try:
            robot = ElementTree.fromstring(urdf)
        except ElementTree.ParseError as error:
            raise KinematicsError(
                f"the robot description is no XML ({error}); expand the xacro"
            ) from error
        columns = {name: index for index, name in enumerate(joint_names)}
        elements = robot.findall("joint")
        missing = set(columns) - {element.get("name") for element in elements}
        if missing:
            raise KinematicsError(
                f"the URDF has no joint {min(missing)!r}; is it another robot's?"
            )
        above = {joint.child: joint for joint in (_joint(e, columns) for e in elements)}
        names = [link.get("name", "") for link in robot.findall("link")]
        self.root, order = _sorted(names, above)
        self._joints = [above[link] for link in order[1:]]
        self.links = tuple(order)
        self.parents = {joint.child: joint.parent for joint in self._joints}
        self.fixed = frozenset(
            joint.child for joint in self._joints if joint.kind == "fixed" or joint.source is None
        )
        self.dimension = len(columns)

    def poses(self, positions: Array, links: Sequence[str] | None = None) -> dict[str, Array]:
        """Return link -> (..., 4, 4), its pose in the root.

        Args:
            positions: (..., D) [rad], grippers [m].
            links: those wanted; None: all.

        Raises:
            KinematicsError: a link is unknown, or the positions are not D numbers each.
        """
        wanted = self.links if links is None else tuple(links)
        needed = self._needed(wanted)
        given = np.asarray(positions, dtype=np.float64)
        if given.ndim < 1 or given.shape[-1] != self.dimension:
            raise KinematicsError(
                f"positions have shape {given.shape}; the last axis must be {self.dimension}"
            )
        flat = given.reshape(-1, self.dimension)
        found = {self.root: np.broadcast_to(np.eye(4), (len(flat), 4, 4))}
        for joint in self._joints:
            if joint.child in needed:
                found[joint.child] = found[joint.parent] @ joint.transform(flat)
        return {link: found[link].reshape(*given.shape[:-1], 4, 4) for link in wanted}

    def points(self, positions: Array, links: Sequence[str] = TIPS) -> Array:
        """Return (..., L, 3) [m]: the origins of ``links`` in the root; see `poses`."""
        poses = self.poses(positions, links)
        return np.stack([poses[link][..., :3, 3] for link in links], axis=-2)

    def _needed(self, links: Sequence[str]) -> set[str]:
        """Return ``links`` and all above them."""
        needed: set[str] = set()
        for name in links:
            if name not in self.links:
                raise KinematicsError(f"the URDF has no link {name!r}; it has {self.links}")
            link: str | None = name
            while link is not None and link not in needed:
                needed.add(link)
                link = self.parents.get(link)
        return needed


def rotations(axis: Array, angles: Array) -> Array:
    """Return (B, 3, 3) turns by ``angles`` (B,) [rad] about the unit vector ``axis`` (3,).

    Rodrigues: R = I + sin(a) K + (1 - cos(a)) K^2, K the cross product with the axis.
    """
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sine, cosine = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    return np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)


def pose(xyz: Sequence[float], rpy: Sequence[float]) -> Array:
    """Return (4, 4) of a URDF origin [m, rad]: turns about the fixed axes x, then y, then z."""
    made = np.eye(4)
    x, y, z = (rotations(axis, np.array([rpy[i]]))[0] for i, axis in enumerate(np.eye(3)))
    made[:3, :3] = z @ y @ x
    made[:3, 3] = xyz
    return made


def quaternion(rotation: Array) -> Array:
    """Return (x, y, z, w), w >= 0, of a rotation matrix (3, 3)."""
    # The eigenvector to the largest eigenvalue: no case by case, exact also near half turns.
    r = rotation
    gram = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
        ]
    )
    _, vectors = np.linalg.eigh(gram)
    found = vectors[:, -1]
    return found if found[3] >= 0 else -found


def _joint(element: ElementTree.Element, columns: dict[str, int]) -> _Joint:
    """Return one joint, or say which cannot be used."""
    name, kind = element.get("name", ""), element.get("type", "")
    if kind not in ("fixed", "prismatic", *TURNS):
        raise KinematicsError(
            f"joint {name!r} is of type {kind!r}; understood are fixed, prismatic, "
            f"{', '.join(TURNS)}"
        )
    try:
        parent, child = (element.find(end).attrib["link"] for end in ("parent", "child"))
        xyz, rpy = (_triple(element, "origin", key, "0 0 0") for key in ("xyz", "rpy"))
        axis = _triple(element, "axis", "xyz", "1 0 0")
        mimic = element.find("mimic")
        driver = name if mimic is None else mimic.attrib["joint"]
        values = {} if mimic is None else mimic.attrib
        factor, offset = float(values.get("multiplier", 1)), float(values.get("offset", 0))
        axis = axis / np.linalg.norm(axis)
    except (AttributeError, KeyError, ValueError) as error:
        raise KinematicsError(f"joint {name!r} of the URDF is unusable: {error!r}") from error
    origin, source = pose(xyz, rpy), columns.get(driver)
    return _Joint(parent, child, origin, kind, axis, source, factor, offset)


def _triple(element: ElementTree.Element, tag: str, key: str, default: str) -> Array:
    found = element.find(tag)
    text = default if found is None else found.get(key, default)
    numbers = np.array([float(word) for word in text.split()])
    if numbers.shape != (3,) or not np.isfinite(numbers).all():
        raise ValueError(f"{tag} {key} is {text!r}, not three numbers")
    return numbers


def _sorted(names: list[str], above: dict[str, _Joint]) -> tuple[str, list[str]]:
    """Return the root and all links, parents before children."""
    roots = [name for name in names if name not in above]
    if len(roots) != 1:
        raise KinematicsError(f"the URDF has {len(roots)} roots, {roots}; a tree has one")
    order = list(roots)
    for link in order:  # grows while it is walked
        order.extend(child for child, joint in above.items() if joint.parent == link)
    if set(order) != set(names):
        lost = sorted(set(names) ^ set(order))
        raise KinematicsError(f"links {lost} of the URDF do not hang on {roots[0]!r}")
    return roots[0], order


class Tokenizer(Protocol):
    """What is needed of an action tokenizer."""

    joint_names: tuple[str, ...]
    horizon: int
    vocabulary_size: int
    per_step: bool

    def decode(self, tokens: NDArray[np.integer], reference: Array) -> Array:
        """Return targets (..., H, D)."""


def tip_paths(
    tokenizer: Tokenizer, kinematics: Kinematics, tokens: NDArray[np.integer], reference: Array
) -> Array:
    """Return (R, H + 1, A, 3) [m]: where each gripper is at the observation and at each step.

    A row with a token outside the vocabulary, a mask say, means no path yet: NaN.

    Args:
        tokenizer: decodes the tokens.
        kinematics: of joints in the tokenizer's order.
        tokens: (R, N), one row a chunk or an evaluation.
        reference: (D,) what the tokens are relative to [rad], grippers [m].

    Raises:
        TokenizerError: the tokens have another shape.
    """
    tokens = np.asarray(tokens, dtype=np.int64)
    known = ((tokens >= 0) & (tokens < tokenizer.vocabulary_size)).all(axis=-1)
    targets = tokenizer.decode(np.where(known[:, None], tokens, 0), np.asarray(reference))
    start = np.broadcast_to(reference, (len(tokens), 1, len(reference)))
    paths = kinematics.points(np.concatenate([start, targets], axis=1))
    paths[~known] = np.nan
    return paths


def arm_confidence(tokenizer: Tokenizer, confidence: NDArray[np.floating]) -> Array:
    """Return (R, H, A): the mean over an arm's tokens of each step.

    Where a token belongs to no step alone, all steps have the mean of all tokens.

    Args:
        tokenizer: of the tokens.
        confidence: (R, N) probability of each token.
    """
    rows, horizon = len(confidence), tokenizer.horizon
    given = np.asarray(confidence, dtype=np.float64)
    if not tokenizer.per_step:
        means = given.mean(axis=-1)
        return np.broadcast_to(means[:, None, None], (rows, horizon, len(ARMS)))
    by_step = given.reshape(rows, horizon, len(tokenizer.joint_names))
    columns = [[tokenizer.joint_names.index(name) for name in ARM_JOINTS[arm]] for arm in ARMS]
    return np.stack([by_step[..., arm].mean(axis=-1) for arm in columns], axis=-1)
