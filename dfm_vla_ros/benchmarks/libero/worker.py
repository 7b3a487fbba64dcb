"""The simulator's process: takes jobs on its input, a JSON line each, and answers on its output.

Run by ``running`` with the interpreter that has LIBERO: ``python -m ...worker PACKAGE ASSETS``.
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
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks.libero.protocol import (
    Answer,
    Job,
    Protocol,
    View,
    read_states,
    state_vector,
)
from dfm_vla_ros.benchmarks.libero.simulator import Act, LiberoSimulator, configure, run_episode
from dfm_vla_ros.benchmarks.libero.variation import Variation
from dfm_vla_ros.errors import DfmVlaError, LiberoError
from dfm_vla_ros.remote.client import PolicyClient
from dfm_vla_ros.remote.protocol import ActRequest

POLICY_WAIT_S = 60.0
LIBRARIES = ("hf-libero", "robosuite", "mujoco", "numpy")


class Bench:
    """Keeps the scene and the policy of the last job for the next."""

    def __init__(self) -> None:
        self._scene: tuple[str, str] = ("", "")
        self._simulator: LiberoSimulator | None = None
        self._client: tuple[str, PolicyClient] | None = None

    def run(self, job: Job) -> Answer:
        """Return how the episode went; errors of policy and settings are answers."""
        try:
            return self._run(job)
        except DfmVlaError as error:
            self._drop_policy()
            return Answer(None, f"{type(error).__name__}: {error}")

    def _run(self, job: Job) -> Answer:
        began = time.perf_counter()
        protocol = Protocol.read(job.protocol)
        simulator = self._prepared(job, protocol)
        simulator.reset(_first_state(job), job.number)
        reset_s = time.perf_counter() - began
        recorder = Recorder(simulator, job)
        act = self._policy(job, protocol) if job.policy else played(job, protocol)
        outcome = run_episode(recorder, act, protocol, job.suite, recorder.watch)
        recorder.keep(outcome.actions)
        return Answer(
            outcome.success,
            "",
            outcome.steps,
            outcome.calls,
            outcome.policy_s,
            outcome.seconds,
            reset_s,
            recorder.state_hash,
        )

    def _prepared(self, job: Job, protocol: Protocol) -> LiberoSimulator:
        key = (job.scene, json.dumps([job.protocol, job.variation], sort_keys=True))
        if self._simulator is None or self._scene != key:
            if self._simulator is not None:
                self._simulator.close()
            variation = Variation.read(job.variation)
            self._simulator = LiberoSimulator(Path(job.scene), protocol, variation)
            self._scene = key
        return self._simulator

    def _policy(self, job: Job, protocol: Protocol) -> Act:
        if self._client is None or self._client[0] != job.policy:
            self._drop_policy()
            client = PolicyClient(job.policy, wait_s=POLICY_WAIT_S)
            self._client = job.policy, client
        return asked(self._client[1], job, protocol)

    def _drop_policy(self) -> None:
        if self._client is not None:
            self._client[1].close()
        self._client = None


class Recorder:
    """A simulator that remembers its states, and what the policy saw."""

    def __init__(self, simulator: LiberoSimulator, job: Job) -> None:
        self._simulator, self._job = simulator, job
        self._hash = hashlib.sha256()
        self._states = [simulator.state]
        self._frames: list[NDArray[np.uint8]] = []

    def step(self, action: NDArray[np.float64], look: bool) -> bool:
        """See ``episode.Simulator``."""
        done = self._simulator.step(action, look)
        state = self._simulator.state
        self._hash.update(state.tobytes())
        if self._job.keep:
            self._states.append(state)
        return done

    def view(self) -> View:
        """See ``episode.Simulator``."""
        return self._simulator.view()

    def watch(self, view: View) -> None:
        """Remember a frame."""
        if self._job.film:
            self._frames.append(np.concatenate([*view.images.values()], axis=1))

    @property
    def state_hash(self) -> str:
        """Of all states after the reset's."""
        return self._hash.hexdigest()[:16]

    def keep(self, actions: NDArray[np.float64]) -> None:
        """Write what the job wants kept."""
        if not self._job.keep:
            return
        folder = Path(self._job.keep)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "actions.npy", actions)
        np.save(folder / "states.npy", np.array(self._states))
        if self._frames:
            np.save(folder / "frames.npy", np.array(self._frames))


def asked(client: PolicyClient, job: Job, protocol: Protocol) -> Act:
    """Return a policy that asks ``client``."""
    about = client.about
    cameras = job.cameras or {name: name for name in about.cameras}

    def act(view: View, call: int) -> NDArray[np.float64]:
        missing = [one for one in about.cameras if cameras.get(one) not in view.images]
        if missing:
            raise LiberoError(
                f"the policy sees {missing[0]!r}, LIBERO has {', '.join(view.images)}: say which "
                f"it is, with --camera {missing[0]}={next(iter(view.images))}"
            )
        images = {name: view.images[cameras[name]] for name in about.cameras}
        state = state_vector(view, about.state_names)
        seed = ((protocol.policy_seed * 1000 + job.task) * 1000 + job.number) * 1000 + call
        # Actions are steps already: their tokens are relative to nothing.
        nothing = np.zeros(len(about.state_names))
        return client.act(ActRequest(images, state, nothing, job.instruction, seed)).actions

    return act


def played(job: Job, protocol: Protocol) -> Act:
    """Return a policy that gives the actions of a file, then stands still."""
    actions = np.load(job.actions)
    rest = np.array(protocol.settle_action)

    def act(view: View, call: int) -> NDArray[np.float64]:
        start = call * protocol.replan
        chunk = actions[start : start + protocol.replan]
        missing = protocol.replan - len(chunk)
        if not len(chunk):
            chunk = rest[None]
            missing -= 1
        still = np.concatenate([np.zeros(6), chunk[-1, 6:]])
        chunk = np.concatenate([chunk, np.tile(still, (missing, 1))])
        value = protocol.gripper.value(chunk[:, 6:])
        return np.concatenate([chunk[:, :6], value], axis=1)

    return act


def _first_state(job: Job) -> NDArray[np.float64] | None:
    if job.first:
        return np.load(job.first)
    if not job.states:
        return None
    states = read_states(Path(job.states))
    if not 0 <= job.number < len(states):
        raise LiberoError(f"{job.states} has states 0..{len(states) - 1}, not {job.number}")
    return states[job.number]


def about_simulator() -> dict[str, Any]:
    """Return the versions and the renderer that decide a result."""
    found = {name: version(name) for name in LIBRARIES}
    return found | {"python": platform.python_version(), "MUJOCO_GL": os.environ["MUJOCO_GL"]}


def serve(jobs: TextIO, answers: TextIO) -> None:
    """Answer every job until there are no more; the first line says what this is."""
    bench = Bench()
    print(json.dumps(about_simulator()), file=answers, flush=True)
    for line in jobs:
        answer = bench.run(Job.read(json.loads(line)))
        print(json.dumps(asdict(answer)), file=answers, flush=True)


def main() -> None:
    """Keep the output for answers: LIBERO prints."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    configure(Path(sys.argv[1]), Path(sys.argv[2]))
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
