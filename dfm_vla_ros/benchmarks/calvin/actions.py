"""What CALVIN's numbers mean, and the ways in which policies give them.

CALVIN's relative action is (dx, dy, dz, droll, dpitch, dyaw, gripper) within -1..1: 1 is 0.02 m or
0.05 rad a step, added to the *commanded* pose; its absolute one is that pose [m, rad] and the
gripper, which closes at -1 and opens at +1. Angles are Euler angles about fixed x, y, z.

Source: github.com/mees/calvin_env, ``robot/robot.py`` and ``utils/utils.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks.calvin.errors import CalvinError

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
