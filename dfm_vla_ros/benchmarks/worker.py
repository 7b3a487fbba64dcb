"""A simulator's process: takes jobs on its input, a JSON line each, and answers on its output.

Runs in the simulator's own interpreter, which besides the simulator needs numpy, msgpack and
websockets alone. An error of the simulator ends the process with its trace; the parent starts
another.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dfm_vla_ros.benchmarks import Array, BenchmarkProtocol, Images, SimulatorJob, rebuilt
from dfm_vla_ros.errors import BenchmarkError, DfmVlaError
from dfm_vla_ros.policy.session import SteppedSession
from dfm_vla_ros.remote.client import PolicyClient
from dfm_vla_ros.remote.protocol import ActRequest

POLICY_WAIT_S = 60.0
FRAMES = "frames.npy"
"""What the policy saw, or with ``always`` every step, for a film."""
Act = Callable[[Images, str, int], Array]
"""Takes images, the instruction and a seed; returns the simulator's actions (T, 7)."""


class Simulator(ABC):
    """One scene of a benchmark, driven step by step; what an adapter writes.

    Attributes:
        FILMED: cameras that a film shows, side by side; images of the same size.
    """

    FILMED: ClassVar[tuple[str, ...]]

    @abstractmethod
    def reset(self, job: Any) -> None:
        """Begin the episode of a job."""

    @abstractmethod
    def begin(self, task: str) -> str:
        """Begin a task of the episode; return the sentence that is said to the policy."""

    @abstractmethod
    def step(self, action: Array, look: bool) -> bool:
        """Do ``action`` (7,); ``look``: images are wanted; return whether the task is done."""

    @abstractmethod
    def images(self) -> Images:
        """Return what was seen in the last step, or at the reset."""

    @abstractmethod
    def policy_state(self, names: Sequence[str]) -> tuple[Array, Array]:
        """Return the measured and the commanded state of a policy with the state ``names``."""

    @property
    @abstractmethod
    def state(self) -> Array:
        """The whole state (N,)."""

    @abstractmethod
    def close(self) -> None:
        """Free what the simulator holds."""


class EpisodeRun:
    """One episode: settles, then acts with chunks of the policy, and remembers.

    Attributes:
        session: of the policy's chunks.
        actions: (7,) each, what the simulator was told after settling.
        states: (N,) each, from the reset on.
        frames: (C, H, W, 3) each, of the filmed cameras.
    """

    def __init__(
        self,
        simulator: Simulator,
        act: Act,
        protocol: BenchmarkProtocol,
        first_seed: int = 0,
        kept: bool = False,
    ) -> None:
        """Take ``simulator``, which was just reset; ``kept``: remember states and frames."""
        self._simulator, self._act, self._protocol = simulator, act, protocol
        self._kept, self._hash = kept, hashlib.sha256()
        self.session = SteppedSession(protocol.replan)
        self.session.begin("episode", first_seed)
        self.actions: list[Array] = []
        self.states = [simulator.state]
        self.frames: list[Array] = []

    def settle(self, actions: Sequence[Array]) -> None:
        """Do ``actions`` before the policy sees anything; a success here does not count."""
        for number, action in enumerate(actions, start=1):
            self._step(action, number == len(actions))

    def run(self, tasks: Sequence[str], most: int) -> tuple[list[int], int]:
        """Do ``tasks`` one after another, until one is not done within ``most`` steps.

        Returns:
            Steps of each task that was tried, and how many were done.
        """
        steps: list[int] = []
        for done, task in enumerate(tasks):
            taken = self._try(task, most)
            steps.append(taken or most)
            if not taken:
                return steps, done
        return steps, len(tasks)

    @property
    def state_hash(self) -> str:
        """Sha256 of all states after the reset's, 16 hexadecimal digits."""
        return self._hash.hexdigest()[:16]

    def keep(self, folder: Path) -> None:
        """Write actions (T, 7), states (S, N) and frames (F, C, H, W, 3) to ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "actions.npy", np.array(self.actions))
        np.save(folder / "states.npy", np.array(self.states))
        np.save(folder / FRAMES, np.array(self.frames))

    def _try(self, task: str, most: int) -> int:
        """Return after how many steps ``task`` was done, 0 if it was not."""
        instruction = self._simulator.begin(task)
        self.session.hold()
        for step in range(1, most + 1):
            if self.session.due or self._protocol.renders_always:
                self._film()
            action = self.session.next_action(
                lambda seed: self._act(self._simulator.images(), instruction, seed)
            )
            self.actions.append(action)
            if self._step(action, self.session.due):
                return step
        return 0

    def _step(self, action: Array, look: bool) -> bool:
        done = self._simulator.step(action, look or self._protocol.renders_always)
        state = self._simulator.state
        self._hash.update(state.tobytes())
        if self._kept:
            self.states.append(state)
        return done

    def _film(self) -> None:
        if self._kept:
            images = self._simulator.images()
            self.frames.append(np.stack([images[name] for name in self._simulator.FILMED]))


class Worker:
    """Runs jobs one after another; keeps the scene of the last for the next."""

    def __init__(
        self, protocol: type[BenchmarkProtocol], build: Callable[[Any, Any], Simulator]
    ) -> None:
        """Take the adapter: its protocol, and what builds the scene of a job and a protocol."""
        self._protocol, self._build = protocol, build
        self._scene: tuple[str, ...] = ()
        self._simulator: Simulator | None = None

    def run(self, job: SimulatorJob) -> dict[str, Any]:
        """Return how the episode went; errors of policy and settings are answers."""
        try:
            with ExitStack() as stack:
                return self._run(job, stack)
        except DfmVlaError as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def _run(self, job: SimulatorJob, stack: ExitStack) -> dict[str, Any]:
        began = time.perf_counter()
        protocol = rebuilt(self._protocol, job.protocol, gripper=self._protocol.GRIPPER)
        simulator = self._prepared(job, protocol)
        simulator.reset(job)
        reset_s = time.perf_counter() - began
        if job.policy:
            client = stack.enter_context(PolicyClient(job.policy, wait_s=POLICY_WAIT_S))
            act = asked(client, job, protocol, simulator)
        else:
            act = played(np.load(job.actions), protocol.replan or 1)
        first_seed = job.first_seed(protocol.policy_seed)
        run = EpisodeRun(simulator, act, protocol, first_seed, bool(job.keep))
        run.settle(protocol.settling)
        steps, in_a_row = run.run(job.tasks, protocol.steps_of(job.suite))
        if job.keep:
            run.keep(Path(job.keep))
        details = {
            "in_a_row": in_a_row,
            "steps": steps,
            "calls": run.session.calls,
            "policy_s": run.session.policy_s,
            "reset_s": reset_s,
            "state_hash": run.state_hash,
        }
        return {
            "success": in_a_row == len(job.tasks),
            "steps": sum(steps),
            "seconds": time.perf_counter() - began,
            "details": {name: details[name] for name in job.DETAILS},
        }

    def _prepared(self, job: SimulatorJob, protocol: BenchmarkProtocol) -> Simulator:
        if self._simulator is None or self._scene != job.scene_key:
            if self._simulator is not None:
                self._simulator.close()
            self._simulator = None  # also if the next one cannot be built
            self._simulator, self._scene = self._build(job, protocol), job.scene_key
        return self._simulator


def asked(
    client: PolicyClient, job: SimulatorJob, protocol: BenchmarkProtocol, simulator: Simulator
) -> Act:
    """Return a policy that asks ``client``."""
    about = client.about
    cameras = job.cameras or {name: name for name in about.cameras}

    def act(images: Images, instruction: str, seed: int) -> Array:
        missing = [one for one in about.cameras if cameras.get(one) not in images]
        if missing:
            raise BenchmarkError(
                f"the policy sees {missing[0]!r}, {protocol.BENCHMARK} has "
                f"{', '.join(images)}: say which it is, with "
                f"--camera {missing[0]}={next(iter(images))}"
            )
        seen = {name: images[cameras[name]] for name in about.cameras}
        measured, commanded = simulator.policy_state(about.state_names)
        request = ActRequest(seen, measured, commanded, instruction, seed)
        return protocol.commands(client.act(request).actions)

    return act


def played(actions: Array, replan: int) -> Act:
    """Return a policy that gives ``actions`` (T, 7), ``replan`` each time, then stands still."""
    calls = count()

    def act(images: Images, instruction: str, seed: int) -> Array:
        rows = np.arange(replan) + next(calls) * replan
        chunk = actions[np.minimum(rows, len(actions) - 1)]
        chunk[rows >= len(actions), :6] = 0.0
        return chunk

    return act


def serve(
    protocol: type[BenchmarkProtocol],
    job: type[SimulatorJob],
    start: Callable[[], tuple[Callable[[Any, Any], Simulator], dict[str, str]]],
    libraries: Sequence[str],
) -> None:
    """Answer every job on the standard input; the first line says what this is.

    Args:
        protocol: of the adapter.
        job: class of the jobs.
        start: prepares the simulator; returns what builds a scene, and what else decides results.
        libraries: whose versions decide results.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a simulator prints goes to the log
    build, about = start()
    about |= {name: version(name) for name in libraries} | {"python": platform.python_version()}
    print(json.dumps(about), file=answers, flush=True)
    worker = Worker(protocol, build)
    for line in sys.stdin:
        print(json.dumps(worker.run(job(**json.loads(line)))), file=answers, flush=True)
