"""LIBERO's adapter: how it is evaluated, and what its numbers mean.

Imported on both sides of the process boundary, so it needs numpy alone.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks import (
    Array,
    ArrayUnpickler,
    BenchmarkProtocol,
    GripperRule,
    Rendering,
    SimulatorJob,
)
from dfm_vla_ros.errors import BenchmarkError

ACTION_NAMES = ("dx", "dy", "dz", "drx", "dry", "drz", "gripper")
POSE_NAMES = ("x", "y", "z", "rx", "ry", "rz")
STATE_NAMES = (*POSE_NAMES, "finger1", "finger2")
"""The state of openpi and OpenVLA-OFT: pose of the hand [m, rad], both fingers [m]."""
JOINT_NAMES = (*POSE_NAMES, "gripper")
"""The state of data sets made here: as many numbers as an action has; gripper: opening [m]."""
CAMERAS = ("agentview", "eye_in_hand")
"""The views, by the names that LIBERO's demonstrations give them."""


@dataclass(frozen=True)
class LiberoProtocol(BenchmarkProtocol):
    """The settings of an evaluation; see ``BenchmarkProtocol``. The gripper's +1 closes.

    Attributes:
        max_steps: suite -> steps after settling; not done by then is a failure.
        episodes: stored states of each task that are used, from the first.
        settle_steps: steps of ``settle_action`` before the policy sees anything.
        settle_action: (7,) what is done meanwhile.
        render_px: side of both images; the policy resizes to what it wants.
        rotate: whether both images are turned by 180 degrees.
        environment_seed: of the placement of what the stored states do not hold.
        reseed: when that seed is set: ``task``: once for each task, as published, so that an
            episode depends on how many there were before; ``episode``: before every one.
    """

    BENCHMARK: ClassVar[str] = "LIBERO"
    PRESETS: ClassVar[str] = "config/benchmarks/libero/presets.yaml"
    ACTIONS: ClassVar[tuple[str, ...]] = ACTION_NAMES
    RATE_HZ: ClassVar[float] = 20.0
    LEAST: ClassVar[Mapping[str, int]] = {
        "replan": 1,
        "episodes": 1,
        "settle_steps": 0,
        "render_px": 8,
        "environment_seed": 0,
        "policy_seed": 0,
    }
    name: str
    source: str
    max_steps: Mapping[str, int]
    replan: int
    gripper: GripperRule
    episodes: int = 50
    settle_steps: int = 10
    settle_action: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    render_px: int = 256
    rotate: bool = True
    environment_seed: int = 0
    reseed: Literal["task", "episode"] = "task"
    rendering: Rendering = "always"
    policy_seed: int = 7

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        if len(self.settle_action) != len(ACTION_NAMES):
            raise BenchmarkError(
                f"{self.name}: settle_action has {len(self.settle_action)} numbers, give "
                f"{len(ACTION_NAMES)}: {', '.join(ACTION_NAMES)}"
            )

    @property
    def settling(self) -> list[Array]:
        """Actions (7,) before the policy sees anything."""
        return [np.array(self.settle_action)] * self.settle_steps

    def steps_of(self, suite: str) -> int:
        """Return the most steps of an episode."""
        if suite not in self.max_steps:
            raise BenchmarkError(
                f"{self.name} says nothing of {suite}; it has {', '.join(self.max_steps)}"
            )
        return self.max_steps[suite]


@dataclass(frozen=True)
class LiberoJob(SimulatorJob):
    """One episode; ``number``: which stored state, or with ``states`` empty which draw.

    Attributes:
        index: of the task in its suite.
        scene: bddl file.
        states: file of stored states; "": the simulator draws the placement.
        instruction: what the policy is told.
        variation: all fields of the ``SceneVariation``.
    """

    index: int = 0
    scene: str = ""
    states: str = ""
    instruction: str = ""
    variation: dict[str, Any] = field(default_factory=dict)

    @property
    def scene_key(self) -> tuple[str, ...]:
        """What the scene is built from."""
        return (*super().scene_key, self.scene, json.dumps(self.variation, sort_keys=True))

    def first_seed(self, policy_seed: int) -> int:
        """Return the seed of the first call of the policy."""
        return ((policy_seed * 1000 + self.index) * 1000 + self.number) * 1000


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


def state_vector(
    position: Array, quaternion: Array, fingers: Array, names: Sequence[str]
) -> Array:
    """Return the state that a policy with the state ``names``, 7 or 8, was trained on.

    Args:
        position: (3,) of the hand [m].
        quaternion: (4,) of the hand, x y z w.
        fingers: (2,) positions of the fingers [m]: the first is >= 0, the second <= 0.
        names: of the policy's state.
    """
    pose = np.concatenate([position, axis_angle(quaternion)])
    if len(names) == len(STATE_NAMES):
        return np.concatenate([pose, fingers])
    if len(names) == len(JOINT_NAMES):
        return np.append(pose, opening(fingers))
    raise BenchmarkError(
        f"the policy has {len(names)} state numbers ({', '.join(names)}); LIBERO gives "
        f"{len(STATE_NAMES)} ({', '.join(STATE_NAMES)}) or {len(JOINT_NAMES)} with the opening"
    )


def opening(fingers: Array) -> Array:
    """Return the opening of the gripper [m] of its two fingers (..., 2)."""
    return fingers[..., 0] - fingers[..., 1]


def turned(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``image`` (..., H, W, 3) turned by 180 degrees: both axes, so nothing is mirrored."""
    return np.ascontiguousarray(image[..., ::-1, ::-1, :])


def read_states(path: Path) -> Array:
    """Return the stored states (S, N) of a task: time, positions, velocities."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
            states = ArrayUnpickler(io.BytesIO(archive.read(name))).load()
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be read ({error.strerror}); reinstall it") from error
    except (zipfile.BadZipFile, pickle.UnpicklingError, KeyError, ValueError, EOFError) as error:
        raise BenchmarkError(f"{path} holds no stored states ({error}); reinstall it") from error
    if not isinstance(states, np.ndarray) or states.ndim != 2 or states.dtype != np.float64:
        raise BenchmarkError(f"{path} holds no float64 array of two dimensions; reinstall it")
    if not np.isfinite(states).all():
        raise BenchmarkError(f"{path} holds a number that is not finite; reinstall it")
    return states
