"""CALVIN's adapter: how it is evaluated, and what its numbers mean.

Imported on both sides of the process boundary, so it needs numpy alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from dfm_vla_ros.benchmarks import (
    Array,
    BenchmarkProtocol,
    GripperRule,
    Rendering,
    SimulatorJob,
)
from dfm_vla_ros.errors import BenchmarkError

ACTION_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
CAMERAS = ("static", "gripper")
"""The views, by CALVIN's names."""
CENTRE = np.array([math.pi, 0.0, math.pi / 2])
"""The hand points down and sideways: its roll crosses pi all the time, which nobody should see."""
POSE, OPENING, COMMAND = slice(0, 6), 6, 14
"""Parts of ``robot_obs`` (15,); the seven joints lie between."""
OPEN_M = 0.08
SUITE, CHAIN = "CALVIN", "chain"
"""Of every episode."""


@dataclass(frozen=True)
class CalvinGripper(GripperRule):
    """How a policy says open and closed; the simulator's gripper has no third state."""

    PLUS_OPENS: ClassVar[bool] = True
    opens: float = 1.0
    closes: float = -1.0
    threshold: float = 0.0


METRES = CalvinGripper(opens=OPEN_M, closes=0.0, threshold=OPEN_M / 2)
"""The gripper as an opening [m], in the unit in which it is measured."""


@dataclass(frozen=True)
class CalvinProtocol(BenchmarkProtocol):
    """The settings of an evaluation; see ``BenchmarkProtocol``.

    Attributes:
        steps: most steps of a task, at 30 Hz; not done by then is a failure and ends the chain.
        replan: steps of a chunk that are executed before the next; 0: as the policy says.
        actions: ``relative`` or ``absolute``, what the policy gives.
        scene: of calvin_env's ``conf/scene``.
        static_px, gripper_px: sides of both images; the policy resizes to what it wants.
        renderer: ``egl`` as published, or ``tiny``, on the processor: other shadows.
    """

    BENCHMARK: ClassVar[str] = "CALVIN"
    PRESETS: ClassVar[str] = "config/benchmarks/calvin/presets.yaml"
    ACTIONS: ClassVar[tuple[str, ...]] = ACTION_NAMES
    RATE_HZ: ClassVar[float] = 30.0
    GRIPPER: ClassVar[type[GripperRule]] = CalvinGripper
    LEAST: ClassVar[Mapping[str, int]] = {
        "steps": 1,
        "replan": 0,
        "static_px": 8,
        "gripper_px": 8,
        "policy_seed": 0,
    }
    name: str = "official"
    source: str = "github.com/mees/calvin, evaluation/evaluate_policy.py"
    steps: int = 360
    replan: int = 0
    actions: Literal["relative", "absolute"] = "relative"
    gripper: CalvinGripper = field(default_factory=CalvinGripper)
    scene: str = "calvin_scene_D"
    static_px: int = 200
    gripper_px: int = 84
    renderer: Literal["egl", "tiny"] = "egl"
    rendering: Rendering = "always"
    policy_seed: int = 0

    def steps_of(self, suite: str) -> int:
        """Return the most steps of a task."""
        return self.steps


@dataclass(frozen=True)
class CalvinJob(SimulatorJob):
    """One chain; ``number``: its row in the list.

    Attributes:
        state: symbolic, where everything is at the start.
        chain: names of the tasks, in order.
    """

    DETAILS: ClassVar[tuple[str, ...]] = ("in_a_row", "steps", "calls", "policy_s", "state_hash")
    state: dict[str, str | int] = field(default_factory=dict)
    chain: list[str] = field(default_factory=list)

    @property
    def tasks(self) -> list[str]:
        """What is to be done, one task after another."""
        return self.chain

    def first_seed(self, policy_seed: int) -> int:
        """Return the seed of the first call of the policy."""
        return policy_seed * 10**9 + self.number * 10**5


def unbroken(pose: Array) -> Array:
    """Return poses (..., 6) whose angles are within pi of ``CENTRE``, where they do not jump."""
    way = (pose[..., 3:6] - CENTRE + math.pi) % (2 * math.pi) - math.pi
    return np.concatenate([pose[..., :3], CENTRE + way], axis=-1)


def measured(robot: Array, count: int) -> Array:
    """Return the state of ``robot_obs`` (15,) as a policy with ``count`` numbers was trained on.

    7: unbroken pose and opening, as in data sets made here; 15: all, as CALVIN gives it.
    """
    if count == len(robot):
        return np.array(robot, dtype=np.float64)
    if count != len(ACTION_NAMES):
        raise BenchmarkError(
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
