"""What is asked of a simulator process and what it answers: one JSON line each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self


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
