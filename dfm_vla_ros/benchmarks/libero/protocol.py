"""How an evaluation is done, all of it explicit; presets are named after whose it is."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import LiberoError

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


ALWAYS, ON_DEMAND = "always", "on_demand"
TASK, EPISODE = "task", "episode"
SETTLE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)


@dataclass(frozen=True)
class Protocol:
    """The settings of an evaluation.

    Attributes:
        name: of the preset.
        source: where the numbers come from.
        max_steps: suite -> steps after settling; not done by then is a failure.
        replan: steps of a chunk that are executed before the next.
        gripper: how the policy says open and closed.
        episodes: stored states of each task that are used, from the first.
        settle_steps: steps of ``settle_action`` before the policy sees anything.
        settle_action: (7,) what is done meanwhile.
        render_px: side of both images; the policy resizes to what it wants.
        rotate: whether both images are turned by 180 degrees.
        environment_seed: of the placement of what the stored states do not hold.
        reseed: when that seed is set: ``task``: once for each task, as published, so that an
            episode depends on how many there were before; ``episode``: before every one.
        rendering: ``always``: at every step, as published; ``on_demand``: when the policy looks.
        policy_seed: of the policy's own draws.
    """

    name: str
    source: str
    max_steps: Mapping[str, int]
    replan: int
    gripper: GripperRule
    episodes: int = 50
    settle_steps: int = 10
    settle_action: tuple[float, ...] = field(default=SETTLE)
    render_px: int = 256
    rotate: bool = True
    environment_seed: int = 0
    reseed: str = TASK
    rendering: str = ALWAYS
    policy_seed: int = 7

    def __post_init__(self) -> None:
        """Check every number."""
        bounds = {"replan": 1, "episodes": 1, "settle_steps": 0, "render_px": 8}
        bounds |= {"environment_seed": 0, "policy_seed": 0}
        for name, least in bounds.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise LiberoError(
                    f"{self.name}: {name} is {value!r}, give a whole number >= {least}"
                )
        choices = {"reseed": (TASK, EPISODE), "rendering": (ALWAYS, ON_DEMAND)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise LiberoError(
                    f"{self.name}: {name} is {getattr(self, name)!r}, give {' or '.join(allowed)}"
                )
        if len(self.settle_action) != len(ACTION_NAMES):
            raise LiberoError(
                f"{self.name}: settle_action has {len(self.settle_action)} numbers, give "
                f"{len(ACTION_NAMES)}: {', '.join(ACTION_NAMES)}"
            )

    @classmethod
    def read(cls, content: Mapping[str, Any], name: str = "") -> Self:
        """Return the protocol that a mapping describes.

        Raises:
            LiberoError: a setting is missing, unknown or out of bounds.
        """
        given = {"name": name, **content}
        known = {one.name for one in fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise LiberoError(f"{name}: there is no setting {unknown[0]!r}; give {sorted(known)}")
        try:
            gripper = GripperRule(**given.pop("gripper"))
            if "settle_action" in given:
                given["settle_action"] = tuple(float(x) for x in given["settle_action"])
            return cls(gripper=gripper, **given)
        except (KeyError, TypeError, ValueError) as error:
            raise LiberoError(
                f"{name}: a setting is missing or of another type: {error}"
            ) from error

    def record(self) -> dict[str, Any]:
        """Return all settings, for a result and for ``read``."""
        return asdict(self)

    def steps_of(self, suite: str) -> int:
        """Return the most steps of an episode.

        Raises:
            LiberoError: the preset does not know the suite.
        """
        if suite not in self.max_steps:
            raise LiberoError(
                f"{self.name} says nothing of {suite}; it has {', '.join(self.max_steps)}"
            )
        return self.max_steps[suite]

    def shown(self, view: View) -> dict[str, np.ndarray]:
        """Return the images as the policy gets them."""
        if not self.rotate:
            return dict(view.images)
        return {camera: turned(image) for camera, image in view.images.items()}


@dataclass(frozen=True)
class Job:
    """One episode.

    Attributes:
        suite: of the task; gives the most steps.
        task: its index.
        number: which stored state, or with ``states`` empty which draw.
        scene: bddl file.
        states: file of stored states; "": the simulator draws the placement.
        instruction: what the policy is told.
        protocol: ``Protocol.record()``.
        variation: ``Variation.record()``.
        policy: address of a policy; "": play ``actions``.
        cameras: the policy's name for a camera -> LIBERO's.
        actions: file of actions (T, 7) to play, .npy, as the simulator takes them.
        first: file of the state (N,) to begin from instead of a stored one, .npy.
        keep: folder for the actions, states and frames of the episode; "": nothing is kept.
        film: whether the frames are kept as well.
    """

    suite: str
    task: int
    number: int
    scene: str
    states: str
    instruction: str
    protocol: dict[str, Any]
    variation: dict[str, Any] = field(default_factory=dict)
    policy: str = ""
    cameras: dict[str, str] = field(default_factory=dict)
    actions: str = ""
    first: str = ""
    keep: str = ""
    film: bool = False

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
        success: done within the steps; None: it ended in an error.
        error: what went wrong, "" if nothing.
        steps, calls, policy_s, seconds: see ``Outcome``.
        reset_s: time to build or reset the scene [s].
        state_hash: sha256 of all states after each step, 16 hex digits.
    """

    success: bool | None
    error: str = ""
    steps: int = 0
    calls: int = 0
    policy_s: float = 0.0
    seconds: float = 0.0
    reset_s: float = 0.0
    state_hash: str = ""


CORE = {"numpy.core.multiarray", "numpy._core.multiarray"}
"""The two names that numpy has given to one module."""


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if module in CORE and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _latin
        raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")


def _latin(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r} is no part of an array")
    return text.encode("latin1")


def read_states(path: Path) -> NDArray[np.float64]:
    """Return the stored states (S, N) of a task: time, positions, velocities.

    Raises:
        LiberoError: the file is missing, damaged or holds anything but an array.
    """
    try:
        states = _load(path)
    except OSError as error:
        raise LiberoError(f"{path} cannot be read ({error.strerror}); reinstall it") from error
    except (zipfile.BadZipFile, pickle.UnpicklingError, KeyError, ValueError, EOFError) as error:
        raise LiberoError(f"{path} holds no stored states ({error}); reinstall it") from error
    if not isinstance(states, np.ndarray) or states.ndim != 2 or states.dtype != np.float64:
        raise LiberoError(f"{path} holds no float64 array of two dimensions; reinstall it")
    if not np.isfinite(states).all():
        raise LiberoError(f"{path} holds a number that is not finite; reinstall it")
    return states


def _load(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
        return _ArrayUnpickler(io.BytesIO(archive.read(name))).load()
