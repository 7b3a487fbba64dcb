"""What is asked of a simulator process and what it answers: one JSON line each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self


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
