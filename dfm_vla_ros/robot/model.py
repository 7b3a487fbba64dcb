"""The robot as its URDF describes it: joints, limits, and where its links are.

The URDF is read here, once: joints and limits by ElementTree (MuJoCo keeps neither the limits of
velocity nor what mimics what), poses by MuJoCo, as distances in `robot.collision`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import ARM_JOINTS, ARMS, JOINT_NAMES
from dfm_vla_ros.robot.limits import JointLimits

if TYPE_CHECKING:
    import mujoco  # loads slowly: not before a pose is asked for

Array = NDArray[np.float64]

TIPS = tuple(f"{arm}_tcp" for arm in ARMS)
"""The link between the finger tips of each arm."""
ARM_ACCELERATION = 60.0
"""[rad/s^2] default bound."""
GRIPPER_ACCELERATION = 60.0
"""[m/s^2]: a finger may cross its whole travel within one control period."""
ARM_JERK = 1500.0
"""[rad/s^3]: three times what the demonstrations' chunks need; full speed stops in 0.13 s."""
GRIPPER_JERK = 1000.0
"""[m/s^3]: a finger may cross its whole travel within one control period."""
KINDS = ("fixed", "prismatic", "revolute", "continuous")


class UrdfError(DfmVlaError):
    """The URDF cannot be used, or a link or posture does not fit it."""


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


def robot_description() -> str:
    """Return the URDF of the two arms: ``urdf/dual_arm.urdf.xacro``, expanded."""
    import xacro  # only where no description is given from outside

    return xacro.process_file(str(resource_path("urdf/dual_arm.urdf.xacro"))).toxml()


class RobotModel:
    """The kinematic tree of a URDF.

    Attributes:
        urdf: the text, with its xacro expanded.
        joint_names: the D columns of a posture; other joints stay at 0 or the limit nearest to
            it, mimicking joints follow.
        joints: every joint by name.
        link_elements: link -> its <link>, in the order of the file.
    """

    def __init__(self, urdf: str = "", joint_names: Sequence[str] = JOINT_NAMES) -> None:
        """Read ``urdf``; empty: that of the shipped dual arm.

        Raises:
            UrdfError: it is no XML, or a joint is missing or has no ends.
        """
        self.urdf, self.joint_names = urdf or robot_description(), tuple(joint_names)
        try:
            xml = ElementTree.fromstring(self.urdf)
        except ElementTree.ParseError as error:
            raise UrdfError(
                f"the robot description is no XML ({error}); expand the xacro"
            ) from error
        self.link_elements = {e.get("name", ""): e for e in xml.findall("link")}
        # Not those that <ros2_control> repeats.
        self._elements = {e.get("name", ""): e for e in xml.findall("joint")}
        missing = [name for name in joint_names if name not in self._elements]
        if missing:
            raise UrdfError(
                f"the URDF has no joint {missing[0]!r}; it has {sorted(self._elements)}"
            )
        self.joints = {name: _joint(name, e) for name, e in self._elements.items()}
        self._above = {joint.child: joint for joint in self.joints.values()}

    # The tree.

    @cached_property
    def links(self) -> tuple[str, ...]:
        """All links, parents before children; the first is the root.

        Raises:
            UrdfError: they are no tree, or a joint is of a type that is not understood.
        """
        for joint in self.joints.values():
            if joint.kind not in KINDS:
                raise UrdfError(
                    f"joint {joint.name!r} is of type {joint.kind!r}; understood are "
                    f"{', '.join(KINDS)}"
                )
        order = [name for name in self.link_elements if name not in self._above]
        if len(order) != 1:
            raise UrdfError(f"the URDF has {len(order)} roots, {order}; a tree has one")
        for link in order:  # grows while it is walked
            order.extend(j.child for j in self._above.values() if j.parent == link)
        if set(order) != set(self.link_elements):
            lost = sorted(set(self.link_elements) ^ set(order))
            raise UrdfError(f"links {lost} of the URDF do not hang on {order[0]!r}")
        return tuple(order)

    @property
    def root(self) -> str:
        """The link that all poses are in."""
        return self.links[0]

    @property
    def parents(self) -> dict[str, str]:
        """Link -> its parent."""
        return {link: self._above[link].parent for link in self.links[1:]}

    @property
    def fixed(self) -> frozenset[str]:
        """Links that never move in their parent."""
        above = (self._above[link] for link in self.links[1:])
        return frozenset(joint.child for joint in above if joint.source not in self.joint_names)

    def path(self, link: str) -> list[Joint]:
        """Return the joints from ``link`` up to the root."""
        joints = []
        while link in self._above:
            joints.append(self._above[link])
            link = joints[-1].parent
        return joints

    def moving(self, link: str) -> list[Joint]:
        """Return the joints on the path that are not fixed."""
        return [joint for joint in self.path(link) if joint.source is not None]

    def sources(self, link: str) -> set[str | None]:
        """Return the joints that move ``link`` when they alone are commanded."""
        return {joint.source for joint in self.moving(link)}

    # Limits.

    def limits(
        self,
        arm_acceleration: float = ARM_ACCELERATION,
        gripper_acceleration: float = GRIPPER_ACCELERATION,
        arm_jerk: float = ARM_JERK,
        gripper_jerk: float = GRIPPER_JERK,
    ) -> JointLimits:
        """Return the limits of ``joint_names``.

        A URDF names no bounds of acceleration and jerk: they are given.

        Raises:
            UrdfError: a limit is missing or unusable.
        """
        lower, upper, velocity = np.array([self._limit(name) for name in self.joint_names]).T
        prismatic = np.array([self.joints[n].kind == "prismatic" for n in self.joint_names])
        acceleration = np.where(prismatic, gripper_acceleration, arm_acceleration)
        jerk = np.where(prismatic, gripper_jerk, arm_jerk)
        return JointLimits(self.joint_names, lower, upper, velocity, acceleration, jerk, prismatic)

    def _limit(self, name: str) -> tuple[float, float, float]:
        """Return lower, upper and velocity of one joint."""
        limit = self._elements[name].find("limit")
        if limit is None:
            raise UrdfError(f"joint {name!r} has no <limit> in the URDF: give it one")
        try:
            lower, upper, speed = (float(limit.attrib[k]) for k in ("lower", "upper", "velocity"))
        except (KeyError, ValueError) as error:
            raise UrdfError(f"joint {name!r}: unusable <limit> ({error!r}): mend it") from error
        if not (lower <= upper and speed > 0):
            raise UrdfError(
                f"joint {name!r}: limit {lower} .. {upper}, velocity {speed}; "
                "lower must not exceed upper and velocity must be positive"
            )
        return lower, upper, speed

    # Where links are.

    def poses(self, positions: Array, links: Sequence[str] | None = None) -> dict[str, Array]:
        """Return link -> (..., 4, 4), its pose in the root.

        Args:
            positions: (..., D) [rad], grippers [m].
            links: those wanted; None: all.

        Raises:
            UrdfError: a link is unknown, or the positions are not D numbers each.
        """
        import mujoco

        wanted = self.links if links is None else tuple(links)
        unknown = [link for link in wanted if link not in self.links]
        if unknown:
            raise UrdfError(f"the URDF has no link {unknown[0]!r}; it has {self.links}")
        given = np.asarray(positions, dtype=np.float64)
        if given.ndim < 1 or given.shape[-1] != len(self.joint_names):
            raise UrdfError(
                f"positions have shape {given.shape}; the last axis must be "
                f"{len(self.joint_names)}"
            )
        rows = self.postures(given.reshape(-1, given.shape[-1]))
        data = mujoco.MjData(self._skeleton)
        bodies = [data.body(link).id for link in wanted]
        found = np.zeros((len(bodies), len(rows), 4, 4))
        found[..., 3, 3] = 1.0
        for row, posture in enumerate(rows):
            data.qpos[:] = posture
            mujoco.mj_kinematics(self._skeleton, data)
            found[:, row, :3, :3] = data.xmat[bodies].reshape(-1, 3, 3)
            found[:, row, :3, 3] = data.xpos[bodies]
        shaped = found.reshape(len(bodies), *given.shape[:-1], 4, 4)
        return dict(zip(wanted, shaped, strict=True))

    def points(self, positions: Array, links: Sequence[str] = TIPS) -> Array:
        """Return (..., L, 3) [m]: the origins of ``links`` in the root; see `poses`."""
        poses = self.poses(positions, links)
        return np.stack([poses[link][..., :3, 3] for link in links], axis=-2)

    def postures(self, positions: Array) -> Array:
        """Return MuJoCo's joint vectors (M, nq) of ``positions`` (M, D)."""
        rest, columns = self._columns
        postures = np.repeat(rest[None], len(positions), axis=0)
        for address, column, factor, offset in columns:
            postures[:, address] = factor * positions[:, column] + offset
        return postures

    def spec(self) -> mujoco.MjSpec:
        """Return links and joints alone for MuJoCo, which wants a mass of what moves, any mass.

        Raises:
            ValueError: MuJoCo cannot read them.
        """
        import mujoco

        bare = ElementTree.Element("robot", {"name": "robot"})
        compiler = {"fusestatic": "false", "discardvisual": "false", "balanceinertia": "true"}
        ElementTree.SubElement(ElementTree.SubElement(bare, "mujoco"), "compiler", compiler)
        moments = {"ixx": "1", "iyy": "1", "izz": "1", "ixy": "0", "ixz": "0", "iyz": "0"}
        for name in self.link_elements:
            kept = ElementTree.SubElement(bare, "link", {"name": name})
            inertial = ElementTree.SubElement(kept, "inertial")
            ElementTree.SubElement(inertial, "mass", {"value": "1"})
            ElementTree.SubElement(inertial, "inertia", moments)
        for joint in self._elements.values():
            kept = ElementTree.SubElement(bare, "joint", dict(joint.attrib))
            parts = ("origin", "parent", "child", "axis", "limit")
            kept.extend(part for part in joint if part.tag in parts)
        return mujoco.MjSpec.from_string(ElementTree.tostring(bare, encoding="unicode"))

    @cached_property
    def _skeleton(self) -> mujoco.MjModel:
        assert self.links  # a better message than MuJoCo's where they are no tree
        try:
            return self.spec().compile()
        except (ValueError, RuntimeError) as error:
            raise UrdfError(f"MuJoCo cannot build the robot ({error}); mend the URDF") from error

    @cached_property
    def _columns(self) -> tuple[Array, list[tuple[int, int, float, float]]]:
        """The resting vector (nq,), and (address, column, factor, offset) of what moves."""
        columns, rest = [], np.array(self._skeleton.qpos0)
        for joint in self.joints.values():
            if joint.source is None:
                continue
            found = self._skeleton.joint(joint.name)
            address = int(found.qposadr[0])
            if joint.source in self.joint_names:
                column = self.joint_names.index(joint.source)
                columns.append((address, column, joint.multiplier, joint.offset))
            elif found.limited[0]:
                rest[address] = np.clip(rest[address], *found.range)
        return rest, columns


def _joint(name: str, element: ElementTree.Element) -> Joint:
    kind, parent, child = element.get("type", ""), element.find("parent"), element.find("child")
    if parent is None or child is None:
        raise UrdfError(f"joint {name!r} lacks <parent> or <child> in the URDF")
    ends = parent.get("link", ""), child.get("link", "")
    mimic = element.find("mimic")
    if kind == "fixed":
        return Joint(name, kind, *ends, None)
    if mimic is None:
        return Joint(name, kind, *ends, name)
    try:
        factor, offset = float(mimic.get("multiplier", 1.0)), float(mimic.get("offset", 0.0))
    except ValueError as error:
        raise UrdfError(f"joint {name!r}: unusable <mimic> ({error})") from error
    return Joint(name, kind, *ends, mimic.get("joint", ""), factor, offset)


class Tokenizer(Protocol):
    """What is needed of an action tokenizer."""

    joint_names: tuple[str, ...]
    horizon: int
    vocabulary_size: int
    per_step: bool

    def decode(self, tokens: NDArray[np.integer], reference: Array) -> Array:
        """Return targets (..., H, D)."""


def tip_paths(
    tokenizer: Tokenizer, robot: RobotModel, tokens: NDArray[np.integer], reference: Array
) -> Array:
    """Return (R, H + 1, A, 3) [m]: where each gripper is at the observation and at each step.

    A row with a token outside the vocabulary, a mask say, means no path yet: NaN.

    Args:
        tokenizer: decodes the tokens.
        robot: of joints in the tokenizer's order.
        tokens: (R, N), one row a chunk or an evaluation.
        reference: (D,) what the tokens are relative to [rad], grippers [m].

    Raises:
        TokenizerError: the tokens have another shape.
    """
    tokens = np.asarray(tokens, dtype=np.int64)
    known = ((tokens >= 0) & (tokens < tokenizer.vocabulary_size)).all(axis=-1)
    targets = tokenizer.decode(np.where(known[:, None], tokens, 0), np.asarray(reference))
    start = np.broadcast_to(reference, (len(tokens), 1, len(reference)))
    paths = robot.points(np.concatenate([start, targets], axis=1))
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
