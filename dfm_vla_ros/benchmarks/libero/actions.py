"""What the numbers mean: the arm's state, the gripper's sign, and both as policies have them.

LIBERO's action is (dx, dy, dz, drx, dry, drz, gripper), each within -1..1: a step of the hand's
pose for an operational-space controller, and a gripper that -1 opens and +1 closes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks.libero.errors import LiberoError

Array = NDArray[np.float64]

ACTION_NAMES = ("dx", "dy", "dz", "drx", "dry", "drz", "gripper")
POSE_NAMES = ("x", "y", "z", "rx", "ry", "rz")
STATE_NAMES = (*POSE_NAMES, "finger1", "finger2")
"""The state of openpi and OpenVLA-OFT: pose of the hand [m, rad], both fingers [m]."""
JOINT_NAMES = (*POSE_NAMES, "gripper")
"""The state of data sets made here: as many numbers as an action has; gripper: opening [m]."""
CAMERAS = ("agentview", "eye_in_hand")
"""The views, by the names that LIBERO's demonstrations give them."""


@dataclass(frozen=True)
class View:
    """What a policy may see of one moment.

    Attributes:
        images: camera -> (H, W, 3) uint8 RGB, as the simulator renders it.
        position: (3,) of the hand [m].
        quaternion: (4,) of the hand, x y z w.
        fingers: (2,) positions of the fingers [m]: the first is >= 0, the second <= 0.
    """

    images: dict[str, NDArray[np.uint8]]
    position: Array
    quaternion: Array
    fingers: Array


@dataclass(frozen=True)
class GripperRule:
    """How a policy says open and closed.

    Attributes:
        opens: its value for open.
        closes: its value for closed.
        threshold: values beyond it, towards ``closes``, close fully and others open fully; None:
            the value is passed on, scaled.
    """

    opens: float
    closes: float
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Check that open and closed differ."""
        if self.opens == self.closes:
            raise LiberoError(f"the gripper's open and closed are both {self.opens:g}; give two")

    def command(self, values: Array) -> Array:
        """Return what the simulator is told, -1 for open and +1 for closed."""
        if self.threshold is not None:
            sign = 1 if self.closes > self.opens else -1
            return np.where(sign * (values - self.threshold) > 0, 1.0, -1.0)
        return 2 * (values - self.opens) / (self.closes - self.opens) - 1

    def value(self, commands: Array) -> Array:
        """Return what a policy says for ``commands``, the inverse of ``command`` at its ends."""
        return self.opens + (commands + 1) / 2 * (self.closes - self.opens)


def commands(actions: Array, gripper: GripperRule) -> Array:
    """Return the simulator's actions (T, 7) for a policy's (T, 7).

    Raises:
        LiberoError: they have another shape.
    """
    if actions.ndim != 2 or actions.shape[1] != len(ACTION_NAMES):
        raise LiberoError(
            f"the policy's actions are {actions.shape}, expected (T, {len(ACTION_NAMES)}): "
            f"{', '.join(ACTION_NAMES)}; use a checkpoint that was trained on LIBERO"
        )
    return np.concatenate([actions[:, :6], gripper.command(actions[:, 6:])], axis=1)


def axis_angle(quaternion: Array) -> Array:
    """Return the rotation vector (3,) [rad] of ``quaternion`` (x, y, z, w).

    The angle is 2 acos(w), of 0 to 2 pi: q and -q give different vectors, as in every published
    evaluation, whose policies were trained on these numbers.
    """
    w = float(np.clip(quaternion[3], -1, 1))
    length = math.sqrt(1 - w * w)
    if math.isclose(length, 0):
        return np.zeros(3)
    return np.asarray(quaternion[:3], dtype=np.float64) * (2 * math.acos(w) / length)


def state_vector(view: View, names: Sequence[str]) -> Array:
    """Return the state that a policy with the state ``names`` was trained on.

    Raises:
        LiberoError: ``names`` are neither 7 nor 8.
    """
    pose = np.concatenate([view.position, axis_angle(view.quaternion)])
    if len(names) == len(STATE_NAMES):
        return np.concatenate([pose, view.fingers])
    if len(names) == len(JOINT_NAMES):
        return np.append(pose, opening(view.fingers))
    raise LiberoError(
        f"the policy has {len(names)} state numbers ({', '.join(names)}); LIBERO gives "
        f"{len(STATE_NAMES)} ({', '.join(STATE_NAMES)}) or {len(JOINT_NAMES)} with the opening"
    )


def opening(fingers: Array) -> Array:
    """Return the opening of the gripper [m] of its two fingers (..., 2)."""
    return fingers[..., 0] - fingers[..., 1]


def turned(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``image`` (..., H, W, 3) turned by 180 degrees: both axes, so nothing is mirrored."""
    return np.ascontiguousarray(image[..., ::-1, ::-1, :])
