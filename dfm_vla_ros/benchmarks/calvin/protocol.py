"""How an evaluation is done, all of it explicit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import CalvinError

Array = NDArray[np.float64]

RELATIVE, ABSOLUTE = "relative", "absolute"
ACTION_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
CAMERAS = ("static", "gripper")
"""The views, by CALVIN's names."""
STEP_M, STEP_RAD = 0.02, 0.05
SCALE = np.array([STEP_M] * 3 + [STEP_RAD] * 3)
CENTRE = np.array([math.pi, 0.0, math.pi / 2])
"""The hand points down and sideways: its roll crosses pi all the time, which nobody should see."""
POSE, OPENING, COMMAND = slice(0, 6), 6, 14
"""Parts of ``robot_obs`` (15,); the seven joints lie between."""
OPEN_M = 0.08


@dataclass(frozen=True)
class GripperRule:
    """How a policy says open and closed.

    Attributes:
        opens: its value for open.
        closes: its value for closed.
        threshold: beyond it, towards ``opens``, the gripper opens; it has no third state.
    """

    opens: float = 1.0
    closes: float = -1.0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        """Check that the threshold lies between open and closed."""
        low, high = sorted((self.opens, self.closes))
        if not low <= self.threshold <= high or low == high:
            raise CalvinError(
                f"the gripper's threshold {self.threshold:g} is not between closed "
                f"{self.closes:g} and open {self.opens:g}: give three numbers in order"
            )

    def command(self, values: Array) -> Array:
        """Return what the simulator is told: +1 opens, -1 closes."""
        sign = 1 if self.opens > self.closes else -1
        return np.where(sign * (values - self.threshold) > 0, 1.0, -1.0)

    def value(self, commands: Array) -> Array:
        """Return what a policy says for the simulator's ``commands``."""
        return np.where(commands > 0, self.opens, self.closes)


METRES = GripperRule(opens=OPEN_M, closes=0.0, threshold=OPEN_M / 2)
"""The gripper as an opening [m], in the unit in which it is measured."""


def commands(actions: Array, gripper: GripperRule) -> Array:
    """Return the simulator's actions (T, 7) for a policy's (T, 7).

    Raises:
        CalvinError: they have another shape.
    """
    if actions.ndim != 2 or actions.shape[1] != len(ACTION_NAMES):
        raise CalvinError(
            f"the policy's actions are {actions.shape}, expected (T, {len(ACTION_NAMES)}): "
            f"{', '.join(ACTION_NAMES)}; use a checkpoint that was trained on CALVIN"
        )
    return np.concatenate([actions[:, :6], gripper.command(actions[:, 6:])], axis=1)


def to_relative(absolute: Array, reference: Array) -> Array:
    """Return relative actions (..., 7) that go from ``reference`` to ``absolute`` (..., 7).

    Longer ways than a step are cut to -1..1, as in CALVIN's own ``rel_actions``.
    """
    way = absolute[..., :6] - reference[..., :6]
    way[..., 3:] = wrapped(way[..., 3:])
    return np.concatenate([np.clip(way / SCALE, -1, 1), absolute[..., 6:]], axis=-1)


def to_absolute(relative: Array, reference: Array) -> Array:
    """Return the poses (T, 7) that relative actions (T, 7) command, one after another.

    Args:
        relative: in the simulator's convention.
        reference: (6,) the pose commanded before the first.
    """
    poses = reference[:6] + np.cumsum(relative[:, :6] * SCALE, axis=0)
    return np.concatenate([poses, relative[:, 6:]], axis=1)


def wrapped(angles: Array) -> Array:
    """Return angles within -pi..pi [rad]."""
    return (angles + math.pi) % (2 * math.pi) - math.pi


def unbroken(pose: Array) -> Array:
    """Return poses (..., 6) whose angles are within pi of ``CENTRE``, where they do not jump."""
    angles = CENTRE + wrapped(pose[..., 3:6] - CENTRE)
    return np.concatenate([pose[..., :3], angles], axis=-1)


def measured(robot: Array, count: int) -> Array:
    """Return the state of ``robot_obs`` (15,) as a policy with ``count`` numbers was trained on.

    7: unbroken pose and opening, as in data sets made here; 15: all, as CALVIN gives it.

    Raises:
        CalvinError: another count.
    """
    if count == len(robot):
        return np.array(robot, dtype=np.float64)
    if count != len(ACTION_NAMES):
        raise CalvinError(
            f"the policy has {count} state numbers; CALVIN gives {len(ACTION_NAMES)} (pose and "
            f"opening) or {len(robot)} (robot_obs)"
        )
    return np.append(unbroken(robot[POSE]), robot[OPENING])


def commanded(pose: Array, robot: Array, count: int, gripper: GripperRule) -> Array:
    """Return the commanded state: ``pose`` (6,), the gripper's last command as ``gripper`` says.

    A policy with 15 numbers gets ``robot_obs`` once more: CALVIN has no other.
    """
    if count != len(ACTION_NAMES):
        return measured(robot, count)
    return np.append(unbroken(pose), gripper.value(np.array(robot[COMMAND])))


ALWAYS, ON_DEMAND = "always", "on_demand"
EGL, TINY = "egl", "tiny"


@dataclass(frozen=True)
class Protocol:
    """The settings of an evaluation.

    Attributes:
        name: of the preset.
        source: where the numbers come from.
        steps: most steps of a task, at 30 Hz; not done by then is a failure and ends the chain.
        replan: steps of a chunk that are executed before the next; 0: as the policy says.
        actions: ``relative`` or ``absolute``, what the policy gives.
        gripper: how the policy says open and closed.
        scene: of calvin_env's ``conf/scene``.
        static_px, gripper_px: sides of both images; the policy resizes to what it wants.
        renderer: ``egl`` as published, or ``tiny``, on the processor: other shadows.
        rendering: ``always``: at every step, as published; ``on_demand``: when the policy looks.
        policy_seed: of the policy's own draws.
    """

    name: str = "official"
    source: str = "github.com/mees/calvin, evaluation/evaluate_policy.py"
    steps: int = 360
    replan: int = 0
    actions: str = RELATIVE
    gripper: GripperRule = field(default_factory=GripperRule)
    scene: str = "calvin_scene_D"
    static_px: int = 200
    gripper_px: int = 84
    renderer: str = EGL
    rendering: str = ALWAYS
    policy_seed: int = 0

    def __post_init__(self) -> None:
        """Check every setting."""
        bounds = {"steps": 1, "replan": 0, "static_px": 8, "gripper_px": 8, "policy_seed": 0}
        for name, least in bounds.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise CalvinError(
                    f"{self.name}: {name} is {value!r}, give a whole number >= {least}"
                )
        choices = {
            "actions": (RELATIVE, ABSOLUTE),
            "renderer": (EGL, TINY),
            "rendering": (ALWAYS, ON_DEMAND),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise CalvinError(
                    f"{self.name}: {name} is {getattr(self, name)!r}, give {' or '.join(allowed)}"
                )

    @classmethod
    def read(cls, content: Mapping[str, Any], name: str) -> Self:
        """Return the protocol that a mapping describes.

        Raises:
            CalvinError: a setting is unknown, of another type or out of bounds.
        """
        given = {"name": name, **content}
        known = [one.name for one in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise CalvinError(f"{name}: there is no setting {unknown[0]!r}; give {known}")
        try:
            return cls(**given | {"gripper": GripperRule(**given.get("gripper", {}))})
        except TypeError as error:
            raise CalvinError(f"{name}: a setting is of another type: {error}") from error

    def record(self) -> dict[str, Any]:
        """Return all settings, for a result and for ``read``."""
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """One chain.

    Attributes:
        number: its row in the list.
        state: symbolic, where everything is at the start.
        tasks: names, in order.
        protocol: ``Protocol.record()``.
        policy: address of a policy; "": play ``actions``.
        cameras: the policy's name for a camera -> CALVIN's.
        actions: file of actions (T, 7) to play, .npy, as the simulator takes them.
        film: file for the frames that the policy saw, .npy; "": none are kept.
    """

    number: int
    state: dict[str, str | int]
    tasks: list[str]
    protocol: dict[str, Any]
    policy: str = ""
    cameras: dict[str, str] = field(default_factory=dict)
    actions: str = ""
    film: str = ""

    @classmethod
    def read(cls, content: dict[str, Any]) -> Self:
        """Return the job of a line."""
        return cls(**content)

    def record(self) -> dict[str, Any]:
        """Return what goes into a line."""
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """How a job ended.

    Attributes:
        in_a_row: tasks done before the first that was not.
        error: what went wrong, "" if nothing; then the rest means nothing.
        steps: of each task that was tried.
        calls: of the policy.
        policy_s: time in these calls [s].
        seconds: time of all [s].
        state_hash: sha256 of robot and scene after each step, 16 hex digits.
    """

    in_a_row: int = 0
    error: str = ""
    steps: list[int] = field(default_factory=list)
    calls: int = 0
    policy_s: float = 0.0
    seconds: float = 0.0
    state_hash: str = ""
