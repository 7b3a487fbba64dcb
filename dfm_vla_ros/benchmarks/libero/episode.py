"""One episode, as the protocol says; knows no simulator."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks.libero.actions import View, commands
from dfm_vla_ros.benchmarks.libero.errors import LiberoError
from dfm_vla_ros.benchmarks.libero.protocol import ALWAYS, Protocol

Array = NDArray[np.float64]
Act = Callable[[View, int], Array]
"""Takes a view, with its images as the policy gets them, and the number of the call; returns the
policy's actions (T, 7)."""
Watch = Callable[[View], None]


class Simulator(Interface):
    """What an episode needs of the simulator."""

    def step(self, action: Array, look: bool) -> bool:
        """Do ``action`` (7,); return whether the task is done.

        ``look``: whether ``view`` will be asked for afterwards.
        """

    def view(self) -> View:
        """Return what was seen in the last step, or the reset."""


@dataclass(frozen=True)
class Outcome:
    """How an episode went.

    Attributes:
        success: done within the steps.
        steps: after settling.
        calls: of the policy.
        policy_s: time in these calls [s].
        seconds: time of all [s].
        actions: (steps, 7) what the simulator was told after settling.
    """

    success: bool
    steps: int
    calls: int
    policy_s: float
    seconds: float
    actions: Array


def run_episode(
    simulator: Simulator,
    act: Act,
    protocol: Protocol,
    suite: str,
    watch: Watch | None = None,
) -> Outcome:
    """Settle, then act until the task is done or the steps are used up.

    ``simulator`` was just reset. What is done while settling does not count, as published.

    Raises:
        LiberoError: the suite is not in the protocol, or a chunk is too short or misshapen.
    """
    began, most = time.perf_counter(), protocol.steps_of(suite)
    _settle(simulator, protocol)
    chunks = _Chunks(simulator, act, protocol, watch)
    done: list[Array] = []
    success = False
    while len(done) < most and not success:
        action, last = chunks.next()
        success = simulator.step(action, last or protocol.rendering == ALWAYS)
        done.append(action)
    seconds = time.perf_counter() - began
    actions = np.array(done).reshape(-1, len(protocol.settle_action))
    return Outcome(success, len(done), chunks.calls, chunks.policy_s, seconds, actions)


def _settle(simulator: Simulator, protocol: Protocol) -> None:
    action = np.array(protocol.settle_action)
    for left in range(protocol.settle_steps, 0, -1):
        simulator.step(action, left == 1 or protocol.rendering == ALWAYS)


class _Chunks:
    """Asks the policy whenever a plan is used up."""

    def __init__(
        self, simulator: Simulator, act: Act, protocol: Protocol, watch: Watch | None
    ) -> None:
        self._simulator, self._act, self._protocol = simulator, act, protocol
        self._watch = watch
        self._plan: deque[Array] = deque()
        self.calls, self.policy_s = 0, 0.0

    def next(self) -> tuple[Array, bool]:
        """Return the next action (7,), and whether the policy looks after it."""
        if not self._plan:
            self._plan.extend(self._ask())
        elif self._watch is not None and self._protocol.rendering == ALWAYS:
            self._watch(self._seen())
        return self._plan.popleft(), not self._plan

    def _seen(self) -> View:
        view = self._simulator.view()
        shown = self._protocol.shown(view)
        return View(shown, view.position, view.quaternion, view.fingers)

    def _ask(self) -> Array:
        view, replan = self._seen(), self._protocol.replan
        if self._watch is not None:
            self._watch(view)
        began = time.perf_counter()
        chunk = commands(self._act(view, self.calls), self._protocol.gripper)
        self.policy_s += time.perf_counter() - began
        self.calls += 1
        if len(chunk) < replan:
            raise LiberoError(
                f"the policy gives {len(chunk)} steps, {self._protocol.name} executes {replan} "
                f"before it asks again: give --replan {len(chunk)} or less"
            )
        return chunk[:replan]
