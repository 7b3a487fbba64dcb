"""The benchmark core's vocabulary: settings, jobs, results, and the reader of arrays.

Both sides of a benchmark import this: the evaluation in our environment, and the worker in the
simulator's own interpreter. It therefore needs numpy alone. An adapter (``libero``, ``calvin``)
subclasses ``BenchmarkProtocol``, ``SimulatorJob`` and ``worker.Simulator``.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import BenchmarkError

Array = NDArray[np.float64]
Images = dict[str, NDArray[np.uint8]]
"""Camera -> (H, W, 3) uint8 RGB."""
EpisodeId = tuple[str, str, int]
"""Suite, task, number (of the stored state or of the chain)."""
Rendering = Literal["always", "on_demand"]
"""When images are rendered: at every step, or when the policy looks."""
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class SimulatorJob:
    """One episode, as it is sent to a simulator's process.

    Attributes:
        suite, task, number: which episode it is.
        protocol: all settings of the ``BenchmarkProtocol``.
        policy: address of the policy; "": play ``actions``.
        cameras: the policy's name for a camera -> the simulator's.
        actions: file of actions (T, 7) to play, .npy, as the simulator takes them.
        keep: folder for the actions, states and frames of the episode; "": nothing is kept.
        DETAILS: what of the worker's answer is written down.
    """

    DETAILS: ClassVar[tuple[str, ...]] = ("calls", "policy_s", "reset_s", "state_hash")
    suite: str
    task: str
    number: int
    protocol: dict[str, Any]
    policy: str = ""
    cameras: dict[str, str] = field(default_factory=dict)
    actions: str = ""
    keep: str = ""

    @property
    def episode(self) -> EpisodeId:
        """Which episode it is."""
        return self.suite, self.task, self.number

    @property
    def tasks(self) -> list[str]:
        """What is to be done, one task after another."""
        return [self.task]

    @property
    def scene_key(self) -> tuple[str, ...]:
        """What the scene is built from; the next job with the same key reuses it."""
        return (json.dumps(self.protocol, sort_keys=True),)

    def first_seed(self, policy_seed: int) -> int:
        """Return the seed of the first call of the policy; later calls count up from it."""
        raise NotImplementedError


@dataclass(frozen=True)
class EpisodeOutcome:
    """How an episode went.

    Attributes:
        suite, task, number: which episode it is.
        success: whether it succeeded; with ``error`` it means nothing.
        steps: of the simulator, without those that settle it.
        seconds: that it took [s].
        error: what broke; empty if it ran to its end.
        details: what else is kept, as JSON holds it.
    """

    suite: str
    task: str
    number: int
    success: bool = False
    steps: int = 0
    seconds: float = 0.0
    error: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def episode(self) -> EpisodeId:
        """Which episode it was."""
        return self.suite, self.task, self.number


def rebuilt(kind: type[Kind], content: Mapping[str, Any], **parts: type) -> Kind:
    """Return the dataclass that was sent as ``content``; ``parts``: those of its fields."""
    try:
        made = {name: part(**content[name]) for name, part in parts.items() if content[name]}
        return kind(**content | made)
    except (TypeError, KeyError) as error:
        raise BenchmarkError(f"{kind.__name__} is of another release: {error}") from error


@dataclass(frozen=True)
class GripperRule:
    """How a policy says open and closed.

    Attributes:
        opens: its value for open.
        closes: its value for closed.
        threshold: values beyond it open or close fully; None: the value is passed on, scaled.
        PLUS_OPENS: whether +1 opens the simulator's gripper; otherwise it closes it.
    """

    PLUS_OPENS: ClassVar[bool] = False
    opens: float
    closes: float
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Check that open and closed differ and that the threshold lies between them."""
        low, high = sorted((self.opens, self.closes))
        if low == high:
            raise BenchmarkError(f"the gripper's open and closed are both {low:g}: give two")
        if self.threshold is not None and not low <= self.threshold <= high:
            raise BenchmarkError(
                f"the gripper's threshold {self.threshold:g} is not between closed "
                f"{self.closes:g} and open {self.opens:g}: give three numbers in order"
            )

    def command(self, values: Array) -> Array:
        """Return what the simulator is told, -1 to 1, for a policy's ``values``."""
        minus, plus = self._ends
        if self.threshold is None:
            return 2 * (values - minus) / (plus - minus) - 1
        sign = 1 if plus > minus else -1
        return np.where(sign * (values - self.threshold) > 0, 1.0, -1.0)

    def value(self, commands: Array) -> Array:
        """Return what a policy says for the simulator's ``commands``, fully open or closed."""
        minus, plus = self._ends
        return np.where(commands > 0, plus, minus)

    @property
    def _ends(self) -> tuple[float, float]:
        ends = self.closes, self.opens
        return ends if self.PLUS_OPENS else ends[::-1]


class BenchmarkProtocol:
    """Base of an adapter's settings of an evaluation, a frozen dataclass.

    The class says the benchmark's name, the file of its presets, the names of the 7 numbers of an
    action, the rate of its control steps and the least value of some settings.

    Attributes:
        name, source: of the preset, and where its numbers come from.
        replan: steps of a chunk that are executed before the next; 0: all of them.
        gripper: how the policy says open and closed.
        rendering: ``always``: at every step, as published; ``on_demand``: when the policy looks.
        policy_seed: of the policy's own draws.
    """

    BENCHMARK: ClassVar[str]
    PRESETS: ClassVar[str]
    ACTIONS: ClassVar[tuple[str, ...]]
    RATE_HZ: ClassVar[float]
    LEAST: ClassVar[Mapping[str, int]]
    GRIPPER: ClassVar[type[GripperRule]] = GripperRule
    name: str
    replan: int
    gripper: GripperRule
    rendering: Rendering
    policy_seed: int

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name, least in self.LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise BenchmarkError(f"{self.name}: {name} is {value}, give at least {least}")

    @property
    def settling(self) -> list[Array]:
        """Actions (7,) before the policy sees anything."""
        return []

    def steps_of(self, suite: str) -> int:
        """Return the most steps of a task of ``suite``."""
        raise NotImplementedError

    @property
    def renders_always(self) -> bool:
        """Whether images are rendered at every step."""
        return self.rendering == "always"

    def commands(self, actions: Array) -> Array:
        """Return the simulator's actions (T, 7) for a policy's (T, 7)."""
        if actions.ndim != 2 or actions.shape[1] != len(self.ACTIONS):
            raise BenchmarkError(
                f"the policy's actions are {actions.shape}, expected (T, {len(self.ACTIONS)}): "
                f"{', '.join(self.ACTIONS)}; use a checkpoint trained on {self.BENCHMARK}"
            )
        return np.concatenate([actions[:, :6], self.gripper.command(actions[:, 6:])], axis=1)


_ARRAY_MAKERS = {
    "numpy.multiarray._reconstruct": np.empty(0).__reduce__()[0],
    "numpy.multiarray.scalar": np.float64(0).__reduce__()[0],
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),
}


class ArrayUnpickler(pickle.Unpickler):
    """Builds arrays and plain values and nothing else, so that no file runs code."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return numpy's own makers of arrays, whose module has had two names."""
        known = f"{module}.{name}".replace(".core.", ".").replace("._core.", ".")
        if known not in _ARRAY_MAKERS:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return _ARRAY_MAKERS[known]
