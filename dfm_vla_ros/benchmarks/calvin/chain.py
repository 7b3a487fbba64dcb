"""One chain, as the protocol says; knows no simulator and no policy."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks.calvin.actions import commands
from dfm_vla_ros.benchmarks.calvin.errors import CalvinError
from dfm_vla_ros.benchmarks.calvin.initial import ROBOT, scene_of
from dfm_vla_ros.benchmarks.calvin.instructions import INSTRUCTIONS
from dfm_vla_ros.benchmarks.calvin.oracle import done
from dfm_vla_ros.benchmarks.calvin.protocol import Protocol
from dfm_vla_ros.benchmarks.calvin.simulator import View
from dfm_vla_ros.benchmarks.calvin.tasks import State
from dfm_vla_ros.benchmarks.calvin.world import World

Array = NDArray[np.float64]
Act = Callable[[View, str], Array]
"""Takes a view and the instruction; returns the policy's actions (T, 7)."""
Watch = Callable[[View], None]


class Simulator(Interface):
    """What a chain needs of the simulator."""

    def reset(self, robot: Array, scene: Array) -> None:
        """Begin anew."""

    def step(self, action: Array) -> World:
        """Do ``action`` (7,) and return where everything is."""

    def world(self) -> World:
        """Return where everything is."""

    def view(self) -> View:
        """Return what there is to see now."""


@dataclass
class Outcome:
    """How a chain went.

    Attributes:
        in_a_row: tasks done before the first that was not.
        steps: of each task that was tried.
        calls: of the policy.
        policy_s: time in these calls [s].
        seconds: time of all [s].
    """

    in_a_row: int = 0
    steps: list[int] = field(default_factory=list)
    calls: int = 0
    policy_s: float = 0.0
    seconds: float = 0.0


def run_chain(
    simulator: Simulator,
    act: Act,
    protocol: Protocol,
    state: State,
    tasks: Sequence[str],
    watch: Watch | None = None,
) -> Outcome:
    """Do ``tasks`` one after another from ``state``, until one is not done in its steps.

    The scene is not reset in between, and each task begins with a new chunk.

    Raises:
        CalvinError: a chunk is too short or misshapen.
    """
    began, run = time.perf_counter(), _Run(simulator, act, protocol, watch)
    simulator.reset(ROBOT.copy(), scene_of(state))
    for task in tasks:
        if not run.try_task(task):
            break
        run.outcome.in_a_row += 1
    run.outcome.seconds = time.perf_counter() - began
    return run.outcome


class _Run:
    def __init__(
        self, simulator: Simulator, act: Act, protocol: Protocol, watch: Watch | None
    ) -> None:
        self._simulator, self._act, self._protocol = simulator, act, protocol
        self._watch = watch
        self.outcome = Outcome()

    def try_task(self, task: str) -> bool:
        """Return whether ``task`` was done in its steps."""
        start, plan = self._simulator.world(), deque[Array]()
        for step in range(1, self._protocol.steps + 1):
            if not plan:
                plan.extend(self._ask(INSTRUCTIONS[task]))
            if done(task, start, self._simulator.step(plan.popleft())):
                self.outcome.steps.append(step)
                return True
        self.outcome.steps.append(self._protocol.steps)
        return False

    def _ask(self, instruction: str) -> Array:
        view = self._simulator.view()
        if self._watch is not None:
            self._watch(view)
        began = time.perf_counter()
        chunk = commands(self._act(view, instruction), self._protocol.gripper)
        self.outcome.policy_s += time.perf_counter() - began
        self.outcome.calls += 1
        replan = self._protocol.replan or len(chunk)
        if len(chunk) < replan:
            raise CalvinError(
                f"the policy gives {len(chunk)} steps, {self._protocol.name} executes {replan} "
                f"before it asks again: give --replan {len(chunk)} or less"
            )
        return chunk[:replan]
