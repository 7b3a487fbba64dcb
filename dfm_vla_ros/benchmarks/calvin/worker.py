"""The simulator's process: takes jobs on its input, a JSON line each, and answers on its output.

Run by ``running`` with the interpreter that has PyBullet: ``python -m ...worker CALVIN_ENV``.
Besides the simulator it needs numpy and msgpack alone. An error of the simulator ends the process
with its trace; the parent starts another.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks.calvin.oracle import World, done
from dfm_vla_ros.benchmarks.calvin.protocol import (
    Answer,
    Job,
    Protocol,
    commanded,
    commands,
    measured,
)
from dfm_vla_ros.benchmarks.calvin.simulator import CalvinSimulator, View
from dfm_vla_ros.benchmarks.calvin.tasks import INSTRUCTIONS, ROBOT, State, scene_of
from dfm_vla_ros.errors import CalvinError, DfmVlaError
from dfm_vla_ros.remote.client import PolicyClient
from dfm_vla_ros.remote.protocol import ActRequest

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


POLICY_WAIT_S = 60.0
LIBRARIES = ("pybullet", "numpy", "hydra-core")


class Bench:
    """Keeps the simulator of the last job for the next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._protocol: dict[str, Any] = {}
        self._simulator: CalvinSimulator | None = None

    def run(self, job: Job) -> Answer:
        """Return how the chain went; errors of policy and settings are answers."""
        try:
            protocol = Protocol.read(job.protocol, str(job.protocol["name"]))
            with policy_of(job, protocol) as (act, replan):
                settings = replace(protocol, replan=protocol.replan or replan)
                return self._run(job, settings, act)
        except DfmVlaError as error:
            return Answer(error=f"{type(error).__name__}: {error}")

    def _run(self, job: Job, protocol: Protocol, act: Act) -> Answer:
        recorder = Recorder(self._prepared(job, protocol))
        watch = recorder.watch if job.film else None
        outcome = run_chain(recorder, act, protocol, job.state, job.tasks, watch)
        if job.film:
            Path(job.film).parent.mkdir(parents=True, exist_ok=True)
            np.save(job.film, np.array(recorder.frames))
        return Answer(**asdict(outcome), state_hash=recorder.state_hash)

    def _prepared(self, job: Job, protocol: Protocol) -> CalvinSimulator:
        if self._simulator is None or self._protocol != job.protocol:
            if self._simulator is not None:
                self._simulator.close()
            self._simulator = CalvinSimulator(self._folder, protocol)
            self._protocol = job.protocol
        return self._simulator


class Recorder:
    """A simulator that remembers its states, and what the policy saw."""

    def __init__(self, simulator: CalvinSimulator) -> None:
        self._simulator = simulator
        self._hash = hashlib.sha256()
        self.frames: list[NDArray[np.uint8]] = []
        self.reset, self.world, self.view = simulator.reset, simulator.world, simulator.view

    def step(self, action: Array) -> World:
        """See ``chain.Simulator``."""
        world = self._simulator.step(action)
        for part in self._simulator.state:
            self._hash.update(part.tobytes())
        return world

    def watch(self, view: View) -> None:
        """Remember a frame."""
        self.frames.append(view.images["static"])

    @property
    def state_hash(self) -> str:
        """Of robot and scene after each step."""
        return self._hash.hexdigest()[:16]


@contextmanager
def policy_of(job: Job, protocol: Protocol) -> Iterator[tuple[Act, int]]:
    """Give the policy of a job, and how many steps of a chunk it wants executed."""
    if not job.policy:
        yield played(np.load(job.actions), protocol), 1
        return
    with PolicyClient(job.policy, wait_s=POLICY_WAIT_S) as client:
        yield asked(client, job, protocol), client.about.execute_steps


def asked(client: PolicyClient, job: Job, protocol: Protocol) -> Act:
    """Return a policy that asks ``client``."""
    about, count = client.about, len(client.about.state_names)
    cameras = job.cameras or {name: name for name in about.cameras}
    seeds = iter(range(protocol.policy_seed * 10**9 + job.number * 10**5, 2**62))

    def act(view: View, instruction: str) -> Array:
        missing = [one for one in about.cameras if cameras.get(one) not in view.images]
        if missing:
            raise CalvinError(
                f"the policy sees {missing[0]!r}, CALVIN has {', '.join(view.images)}: say which "
                f"it is, with --camera {missing[0]}={next(iter(view.images))}"
            )
        images = {name: view.images[cameras[name]] for name in about.cameras}
        state = measured(view.robot, count)
        target = commanded(view.pose, view.robot, count, protocol.gripper)
        return client.act(ActRequest(images, state, target, instruction, next(seeds))).actions

    return act


def played(actions: Array, protocol: Protocol) -> Act:
    """Return a policy that gives the actions of a file in order, the last again and again."""
    rows = iter(range(2**62))

    def act(view: View, instruction: str) -> Array:
        numbers = [min(next(rows), len(actions) - 1) for _ in range(protocol.replan or 1)]
        chunk = actions[numbers]
        return np.concatenate([chunk[:, :6], protocol.gripper.value(chunk[:, 6:])], axis=1)

    return act


def about_simulator(folder: Path) -> dict[str, Any]:
    """Return the versions that decide a result."""
    found = {name: version(name) for name in LIBRARIES}
    return found | {"python": platform.python_version(), "calvin_env": commit(folder)}


def commit(folder: Path) -> str:
    """Return the commit that is checked out in ``folder``, "unknown" if nothing says it."""
    try:
        head = (folder / ".git/HEAD").read_text(encoding="utf-8").strip()
        name = head.removeprefix("ref: ")
        return head if name == head else (folder / ".git" / name).read_text("utf-8").strip()
    except OSError:
        return "unknown"


def serve(folder: Path, jobs: TextIO, answers: TextIO) -> None:
    """Answer every job until there are no more; the first line says what this is."""
    bench = Bench(folder)
    print(json.dumps(about_simulator(folder)), file=answers, flush=True)
    for line in jobs:
        answer = bench.run(Job.read(json.loads(line)))
        print(json.dumps(asdict(answer)), file=answers, flush=True)


def main() -> None:
    """Keep the output for answers: PyBullet prints."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(Path(sys.argv[1]), sys.stdin, answers)


if __name__ == "__main__":
    main()
