"""Scenes that differ from the stored ones, after LIBERO-Plus and LIBERO-PRO.

LIBERO-Plus (github.com/sylvestf/LIBERO-plus) moves the camera in steps that its tasks' names give
(``_view_H_V_S_R_T_initstate_N``) and starts the arm at one of 500 poses, a hundred each at a
distance of 0.1, 0.2, 0.3, 0.4 and 0.5 rad from the usual one. Its lights are files that are not in
its repository, so those here are our own.

LIBERO-PRO lists other words, places, objects and goals in the files ``ood_*.yaml`` of
``libero_ood`` in github.com/Zxy-MLlab/LIBERO-PRO: suite -> task -> alternatives. They are read
from a copy; none of them is shipped here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from dfm_vla_ros.benchmarks import Array
from dfm_vla_ros.errors import BenchmarkError, SceneError

PIVOT = (0.0, 0.0, 0.8)
"""What the camera turns about: above the middle of the table [m]."""
ARM_JOINTS = 7


@dataclass(frozen=True)
class CameraShift:
    """How the third-person camera is moved, in this order.

    Attributes:
        up_deg: about the y axis through the pivot, with the camera's direction [degree].
        around_deg: about the world's z axis, with its direction [degree].
        distance: factor on the distance from the pivot.
        pan_deg: its direction alone, about z [degree].
        tilt_deg: its direction alone, about y [degree].
    """

    up_deg: float = 0.0
    around_deg: float = 0.0
    distance: float = 1.0
    pan_deg: float = 0.0
    tilt_deg: float = 0.0

    @classmethod
    def of_name(cls, name: str) -> Self:
        """Return the shift that a LIBERO-Plus task's name gives."""
        part = name.partition("_view_")[2].partition("_initstate_")[0].split("_")
        try:
            around, up, percent, pan, tilt = (float(number) for number in part)
        except ValueError as error:
            raise BenchmarkError(
                f"{name!r} has no _view_H_V_S_R_T_initstate_N as LIBERO-Plus's tasks have"
            ) from error
        return cls(up, around, percent / 100, pan, tilt)

    def apply(self, position: Array, quaternion: Array) -> tuple[Array, Array]:
        """Return the moved position (3,) and quaternion (4,), w x y z.

        LIBERO-Plus rounds both to four digits between its steps; this does not.
        """
        up, around = _about_y(self.up_deg), _about_z(self.around_deg)
        position = _rotate(up, position - PIVOT) + PIVOT
        position = _rotate(around, position)
        position = PIVOT + self.distance * (position - PIVOT)
        quaternion = _multiply(around, _multiply(up, quaternion))
        quaternion = _multiply(_about_z(self.pan_deg), quaternion)
        return position, _multiply(_about_y(self.tilt_deg), quaternion)


@dataclass(frozen=True)
class LightChange:
    """How the lights differ; our own, LIBERO-Plus's are not public in code.

    ``colour``: factors on diffuse, specular and ambient light, red green blue; ``move``: added to
    every position [m]; ``shadows``: whether lights cast them, None: as they are.
    """

    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    move: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shadows: bool | None = None


@dataclass(frozen=True)
class SceneVariation:
    """All that may differ; the default is the stored scene.

    Attributes:
        name: of the preset.
        camera: how the third-person camera is moved.
        light: how the lights differ.
        arm_rad: distance of the arm's first joint positions from the stored ones [rad].
        definitions: of ``KINDS``, a file of LIBERO-PRO that changes words or objects.
        choice: which of its alternatives, from 0.
    """

    PRESETS: ClassVar[str] = "config/benchmarks/libero/variations.yaml"
    name: str = "plain"
    camera: CameraShift | None = None
    light: LightChange | None = None
    arm_rad: float = 0.0
    definitions: str = ""
    choice: int = 0

    def arm_offset(self, seed: int) -> Array:
        """Return what is added to the arm's joints (7,) [rad]: of length ``arm_rad``."""
        direction = np.random.default_rng(seed).normal(size=ARM_JOINTS)
        return self.arm_rad * direction / np.linalg.norm(direction)


def _about_y(degrees: float) -> Array:
    """Return the quaternion (w, x, y, z) of a turn that raises what is in front, x towards z."""
    half = math.radians(-degrees) / 2
    return np.array([math.cos(half), 0.0, math.sin(half), 0.0])


def _about_z(degrees: float) -> Array:
    half = math.radians(degrees) / 2
    return np.array([math.cos(half), 0.0, 0.0, math.sin(half)])


def _multiply(a: Array, b: Array) -> Array:
    """Return the product of quaternions w x y z: first ``b``, then ``a``."""
    w = a[0] * b[0] - a[1:] @ b[1:]
    return np.append(w, a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:]))


def _rotate(quaternion: Array, vector: Array) -> Array:
    turned = _multiply(quaternion, np.append(0.0, vector))
    return _multiply(turned, quaternion * (1, -1, -1, -1))[1:]


def section(text: str, name: str) -> tuple[int, int]:
    """Return where ``(:name ...)`` begins and ends in ``text``."""
    start = re.search(rf"\(:{name}\b", text)
    if start is None:
        raise SceneError(f"the scene has no section :{name}")
    depth = 0
    for place in range(start.start(), len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return start.start(), place + 1
    raise SceneError(f"the scene's section :{name} does not end")


def swap_places(text: str, first: str, second: str) -> str:
    """Return the scene with ``first`` where ``second`` was at the start, and the reverse."""
    begin, end = section(text, "init")
    init = text[begin:end]
    for name in (first, second):
        if not re.search(rf"\(\w+ {re.escape(name)} ", init):
            raise SceneError(f"the scene places no {name!r} at the start; it cannot be swapped")
    other = {first: second, second: first}
    pattern = rf"(\(\w+ )({re.escape(first)}|{re.escape(second)})(?= )"
    changed = re.sub(pattern, lambda found: found[1] + other[found[2]], init)
    return text[:begin] + changed + text[end:]


def replace_kind(text: str, kind: str, other: str) -> str:
    """Return the scene with ``other`` things instead of those of ``kind``; names stay."""
    pattern = rf"(?m)(\s-\s+){re.escape(kind)}(?=[\s)])"
    changed, count = re.subn(pattern, rf"\g<1>{other}", text)
    if not count:
        raise SceneError(f"the scene has nothing of the kind {kind!r}")
    return changed


def replace_goal(text: str, goal: str, obj_of_interest: Sequence[str], **_: Any) -> str:
    """Return the scene with another ``goal``, an expression such as ``(And (On a b))``."""
    for name, content in (("goal", goal), ("obj_of_interest", "\n".join(obj_of_interest))):
        begin, end = section(text, name)
        text = f"{text[:begin]}(:{name}\n{content}\n){text[end:]}"
    return text


SceneChange = tuple[str | None, str | None]
"""Another sentence, another scene's text; None: as it was."""
SOURCE = "libero_ood of github.com/Zxy-MLlab/LIBERO-PRO"
KINDS: dict[str, Callable[[str, Any], SceneChange]] = {
    "language": lambda text, words: (words, None),
    "spatial_relation": lambda text, pair: (None, swap_places(text, *pair)),
    "object": lambda text, pair: (None, replace_kind(text, *pair)),
    "task": lambda text, pair: (pair[0], replace_goal(text, **pair[1])),
}
"""Kind, as in the file's name -> what one of its alternatives changes in a scene's text."""


def read_definitions(folder: Path | None, kind: str) -> dict[str, Any]:
    """Return suite -> task -> alternatives."""
    from dfm_vla_ros.schema import read_yaml  # needs what a simulator's interpreter lacks

    if kind not in KINDS:
        raise BenchmarkError(f"there are no definitions {kind!r}; there are {', '.join(KINDS)}")
    if folder is None:
        raise BenchmarkError(f"this variation needs definitions: give --definitions with {SOURCE}")
    return read_yaml(folder / f"ood_{kind}.yaml", error=BenchmarkError)


def scene_change(
    definitions: Mapping[str, Any],
    variation: SceneVariation,
    episode: tuple[str, str],
    scene: Path,
) -> SceneChange | None:
    """Return what the variation makes of suite and task; None if it has no such alternative.

    Raises:
        SceneError: the alternative does not fit the scene.
    """
    suite, name = episode
    listed = definitions.get(suite) or {}
    try:
        alternatives = _flat(listed.get(name.lower()) or listed.get(name))
        if variation.choice >= len(alternatives):
            return None
        chosen = alternatives[variation.choice]
        return KINDS[variation.definitions](scene.read_text(encoding="utf-8"), chosen)
    except (TypeError, KeyError, AttributeError) as error:
        raise BenchmarkError(f"the definitions of {name} are of another form: {error}") from error


def _flat(found: Any) -> list[Any]:
    """Return the alternatives: a list as it is, a mapping as pairs with each of its values."""
    if not isinstance(found, Mapping):
        return list(found or [])
    listed = {key: one if isinstance(one, list) else [one] for key, one in found.items()}
    return [(key, value) for key, values in listed.items() for value in values]
