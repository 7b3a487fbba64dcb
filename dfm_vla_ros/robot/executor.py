"""The executor without ROS: chunks of tokens in, plans out, and the running reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.robot.limits import JointLimits
from dfm_vla_ros.robot.plan import (
    DEFAULT_SETTINGS,
    Plan,
    PlanRefused,
    PlanSettings,
    PlanTooLate,
    plan,
)
from dfm_vla_ros.robot.reference import Reference

Array = NDArray[np.float64]


class Verdict(IntEnum):
    """What became of a chunk; the numbers are those of ExecutorStatus."""

    OK = 0
    UNKNOWN_TOKENIZER = 1
    WRONG_JOINTS = 2
    MALFORMED = 3
    LIMIT_VIOLATED = 4
    TOO_LATE = 5
    NO_REFERENCE = 6


class ChunkRefused(DfmVlaError):
    """The chunk is refused whole, and why."""

    def __init__(self, verdict: Verdict, message: str) -> None:
        """Keep the verdict beside the message."""
        super().__init__(message)
        self.verdict = verdict


class Tokenizer(Protocol):
    """What the executor needs of an action tokenizer."""

    hash: str
    joint_names: tuple[str, ...]
    horizon: int
    vocabulary_size: int
    control_period_s: float

    def decode(self, tokens: NDArray[np.integer], reference: Array) -> Array:
        """Return targets (H, D)."""


@dataclass(frozen=True)
class Request:
    """The parts of an ActionChunk that decide what the arms do.

    Attributes:
        tokens: (H * D,), step-major.
        reference: (D,) commanded positions that the tokens count from [rad], grippers [m].
        observation_s: when the observation was made; step k is due k control periods later [s].
    """

    tokenizer_hash: str
    joint_names: tuple[str, ...]
    horizon: int
    tokens: NDArray[np.integer]
    reference: Array
    control_period_s: float
    observation_s: float


class Executor:
    """Checks chunks, plans them from its own running reference and remembers what it commands.

    All times are on one clock [s].
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        limits: JointLimits,
        settings: PlanSettings = DEFAULT_SETTINGS,
        maximum_age_s: float = 0.5,
    ) -> None:
        """Wait for joint states; refuse chunks while the newest are too old."""
        self.tokenizer = tokenizer
        self.limits = limits
        self._settings = settings
        self._maximum_age_s = maximum_age_s
        self._reference: Reference | None = None
        self._measured_s = -np.inf
        self._valid_from_s = -np.inf
        self._newest_observation_s = -np.inf
        self._end_s = -np.inf

    def reset(self, since_s: float) -> None:
        """Forget the reference: the robot was put somewhere else at ``since_s``.

        The next joint states from then on are the new one; chunks seen from before are refused.
        """
        self._reference = None
        self._valid_from_s = since_s
        self._newest_observation_s = self._end_s = -np.inf

    def measure(self, names: Sequence[str], positions: Sequence[float], stamp_s: float) -> None:
        """Take in joint states: the first ones (after a reset) are where the reference starts.

        Joints are found by name; the message may hold others.

        Raises:
            ChunkRefused: a joint is missing or not finite; the message does not count as new.
        """
        if stamp_s < self._valid_from_s:
            return
        ordered = self._ordered(names, positions)
        if self._reference is None:
            self._reference = Reference(ordered)
        self._measured_s = stamp_s

    def sample(self, now_s: float) -> tuple[Array, Array] | None:
        """Return position and velocity (D,) commanded now; None before the first joint states."""
        return None if self._reference is None else self._reference.sample(now_s)

    def executing(self, now_s: float) -> bool:
        """Return whether a trajectory is running."""
        return self._reference is not None and now_s < self._end_s

    def receive(self, request: Request, now_s: float) -> Plan:
        """Return the plan for a chunk and follow it from now on.

        Raises:
            ChunkRefused: nothing changes; the arms go on with the old trajectory, to rest.
        """
        self._check_identity(request)
        self._check_content(request)
        reference = self._check_reference(request, now_s)
        tokens = request.tokens.reshape(request.horizon, len(self.limits.names))
        targets = self.tokenizer.decode(tokens, request.reference)
        steps = np.arange(1, request.horizon + 1)
        due_s = request.observation_s + steps * request.control_period_s
        start_s = now_s + self._settings.lead_s
        try:
            made = plan(
                targets, due_s, start_s, *reference.sample(start_s), self.limits, self._settings
            )
        except PlanTooLate as error:
            raise ChunkRefused(Verdict.TOO_LATE, str(error)) from error
        except PlanRefused as error:
            raise ChunkRefused(Verdict.LIMIT_VIOLATED, str(error)) from error
        reference.replace(made.joined, made.stamp_s, now_s)
        self._newest_observation_s, self._end_s = request.observation_s, made.end_s
        return made

    def _ordered(self, names: Sequence[str], positions: Sequence[float]) -> Array:
        """Return the positions of the limits' joints, found by name."""
        at = {name: position for name, position in zip(names, positions, strict=False)}
        missing = [name for name in self.limits.names if name not in at]
        if missing:
            raise ChunkRefused(
                Verdict.WRONG_JOINTS,
                f"the joint states lack {missing[0]}; they hold {list(names)}",
            )
        ordered = np.array([at[name] for name in self.limits.names], dtype=np.float64)
        if not np.isfinite(ordered).all():
            joint = self.limits.names[int(np.argmin(np.isfinite(ordered)))]
            raise ChunkRefused(
                Verdict.NO_REFERENCE, f"joint states: {joint} is {at[joint]}, not finite"
            )
        return ordered

    def _check_identity(self, request: Request) -> None:
        """Refuse a chunk of another tokenizer or another robot."""
        if request.tokenizer_hash != self.tokenizer.hash:
            raise ChunkRefused(
                Verdict.UNKNOWN_TOKENIZER,
                f"tokenizer_hash is {request.tokenizer_hash!r}, loaded is "
                f"{self.tokenizer.hash!r}: give policy and executor the same checkpoint",
            )
        if request.joint_names != self.limits.names:
            raise ChunkRefused(
                Verdict.WRONG_JOINTS,
                f"joint_names are {list(request.joint_names)}, this robot's are "
                f"{list(self.limits.names)}",
            )

    def _check_content(self, request: Request) -> None:
        """Refuse sizes that disagree, tokens out of vocabulary and numbers that are none."""
        joints, known = len(self.limits.names), self.tokenizer
        expected = known.horizon * joints
        checks = (
            (
                request.horizon == known.horizon,
                f"horizon {request.horizon} is not {known.horizon}",
            ),
            (request.tokens.size == expected, f"{request.tokens.size} tokens, not {expected}"),
            (
                request.reference.size == joints,
                f"{request.reference.size} reference positions, not {joints}",
            ),
            (
                bool(np.isfinite(request.reference).all()),
                f"reference_positions are {request.reference}, not finite",
            ),
            (
                abs(request.control_period_s - known.control_period_s) < 1e-6,
                f"control_period is {request.control_period_s} s, not {known.control_period_s} s",
            ),
            (
                bool((request.tokens < known.vocabulary_size).all()),
                f"token {request.tokens.max(initial=0)} is out of vocabulary: allowed are 0 .. "
                f"{known.vocabulary_size - 1}",
            ),
        )
        for holds, message in checks:
            if not holds:
                raise ChunkRefused(Verdict.MALFORMED, message)

    def _check_reference(self, request: Request, now_s: float) -> Reference:
        """Return the reference, unless it or the chunk is too old."""
        age_s = now_s - self._measured_s
        if self._reference is None or age_s > self._maximum_age_s:
            raise ChunkRefused(
                Verdict.NO_REFERENCE,
                f"the newest joint states are {age_s:.3f} s old, allowed is "
                f"{self._maximum_age_s} s: is the robot publishing joint_states?",
            )
        if request.observation_s < self._valid_from_s:
            raise ChunkRefused(Verdict.TOO_LATE, "the chunk was made before the robot was reset")
        if request.observation_s < self._newest_observation_s:
            raise ChunkRefused(
                Verdict.TOO_LATE,
                f"a chunk {self._newest_observation_s - request.observation_s:.3f} s newer is "
                "running: only one policy may command the arms",
            )
        return self._reference
