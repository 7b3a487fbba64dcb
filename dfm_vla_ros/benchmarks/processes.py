"""Processes of an evaluation: policies that are served to simulators, and the simulators."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self

from dfm_vla_ros import children
from dfm_vla_ros.benchmarks import EpisodeOutcome, SimulatorJob
from dfm_vla_ros.errors import BenchmarkError, SimulatorLost
from dfm_vla_ros.remote.client import PolicyClient
from dfm_vla_ros.remote.protocol import About
from dfm_vla_ros.resources import PACKAGE

SIMULATOR_START_S = 300.0
"""The first start compiles for a while."""
SERVE = (sys.executable, "-m", "dfm_vla_ros.cli", "serve")
POLICY_START_S = 600.0
"""Some checkpoints are large."""
END_S = 5.0
SHOWN_LINES = 3


@dataclass(frozen=True)
class Program:
    """What runs in a simulator's own environment: ``python -m module arguments``.

    The module is of this package, see ``worker``; ``hint`` says what to try if it does not start.
    """

    python: Path
    module: str
    arguments: tuple[str, ...]
    hint: str = ""


class SimulatorProcess:
    """One process of the simulator."""

    def __init__(self, program: Program, log: Path) -> None:
        """Start it; what it prints goes to ``log``; raises SimulatorLost if it does not start."""
        self._program, self._log = program, log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix="simulator_code_")
        # This package alone: our other libraries would come before the simulator's.
        (Path(self._folder.name) / PACKAGE.name).symlink_to(PACKAGE)
        with log.open("ab") as output:
            self._process = children.start(
                [program.python, "-m", program.module, *program.arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=_environment(self._folder.name),
                text=True,
            )
        self.about: dict[str, Any] = self._answer(SIMULATOR_START_S)

    def ask(self, job: SimulatorJob, limit_s: float) -> dict[str, Any]:
        """Return the answer to a job.

        Raises:
            SimulatorLost: the process died, or took longer than ``limit_s`` and was ended.
        """
        with suppress(BrokenPipeError):  # then there is no answer either
            print(json.dumps(asdict(job)), file=self._process.stdin, flush=True)
        return self._answer(limit_s)

    def close(self) -> None:
        """End it; a second time nothing happens."""
        children.end(self._process, patience_s=0.0)
        with suppress(ValueError):  # its pipes are closed already
            self._process.communicate()
        self._folder.cleanup()

    def _answer(self, limit_s: float) -> dict[str, Any]:
        line = _line_within(self._process, limit_s)
        if line.endswith("\n"):
            return json.loads(line)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self.close()
        said = children.last_lines(self._log, SHOWN_LINES).strip().replace("\n", " | ")
        raise SimulatorLost(
            f"the simulator's process ended ({self._process.returncode}), or took more than "
            f"{limit_s:g} s; it said: {said or 'nothing'}; all of it is in {self._log}"
            f"{self._program.hint}"
        )


class SimulatorPool:
    """Simulator processes, one for each policy, that share groups of jobs; a context manager.

    The jobs of a group run in order in one process: with placements that are drawn once for each
    task an episode depends on those before it.
    """

    def __init__(self, program: Program, policies: Sequence[str], folder: Path) -> None:
        """Start one process, which tells what it is; the others start when they are needed.

        Args:
            program: of the simulator.
            policies: address that each process asks; "": its jobs play recorded actions.
            folder: where the logs go.
        """
        self._program, self._policies, self._folder = program, policies, folder
        self._processes: dict[int, SimulatorProcess] = {}
        self._stopped = threading.Event()
        self.about = self._started(0).about

    def run(
        self, groups: Sequence[Sequence[SimulatorJob]], limit_s: float
    ) -> Iterator[tuple[Any, EpisodeOutcome]]:
        """Yield every job with how its episode went, as they end; longer is an error [s]."""
        waiting: SimpleQueue[Sequence[SimulatorJob]] = SimpleQueue()
        ended: SimpleQueue[tuple[SimulatorJob, EpisodeOutcome]] = SimpleQueue()
        for group in groups:
            waiting.put(group)

        def work(number: int) -> None:
            with suppress(Empty):
                while True:
                    for job in waiting.get_nowait():
                        if not self._stopped.is_set():
                            ended.put((job, self._episode(number, job, limit_s)))

        for number in range(len(self._policies)):
            threading.Thread(target=work, args=(number,), daemon=True).start()
        for _ in range(sum(map(len, groups))):
            yield ended.get()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for process in list(self._processes.values()):
            process.close()

    def _episode(self, number: int, job: SimulatorJob, limit_s: float) -> EpisodeOutcome:
        job = replace(job, policy=self._policies[number])
        try:
            answer = self._started(number).ask(job, limit_s)
        except SimulatorLost as error:
            self._processes.pop(number, None)
            answer = {"error": f"SimulatorLost: {error}"}
        return EpisodeOutcome(*job.episode, **answer)

    def _started(self, number: int) -> SimulatorProcess:
        if number not in self._processes:
            log = self._folder / f"simulator{number}.log"
            self._processes[number] = SimulatorProcess(self._program, log)
        return self._processes[number]


def _environment(code: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # Its small matrices only wait for one another on several threads.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return threads | kept | {"PYTHONPATH": code, "PYTHONUNBUFFERED": "1"}


@contextmanager
def served_policies(
    checkpoint: Path | None, addresses: Sequence[str], workers: int, arguments: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Give addresses of policies: ``addresses``, or of ``workers`` servers of ``checkpoint``."""
    if (checkpoint is None) == (not addresses):
        raise BenchmarkError("give either --checkpoint, or --policy with the address of a server")
    if checkpoint is None:
        yield list(addresses)
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="policy_")))
        sockets = [str(folder / f"policy{number}.sock") for number in range(workers)]
        # All are started before any is waited for: they load at the same time.
        servers = [stack.enter_context(_server(checkpoint, one, arguments)) for one in sockets]
        for server in servers:
            if "served" not in _line_within(server, POLICY_START_S):
                raise BenchmarkError(
                    f"dfm-vla serve --checkpoint {checkpoint} ended with {server.wait()} before "
                    "it was ready; what it said is above"
                )
            # Its log would fill the pipe.
            threading.Thread(target=server.stdout.read, daemon=True).start()
        yield sockets


def policy_about(addresses: Sequence[str]) -> About:
    """Return what the policy at all of ``addresses`` is.

    Raises:
        RemoteError: nobody listens at one.
        BenchmarkError: they serve different policies, whose results would be mixed.
    """
    found = []
    for address in addresses:
        with PolicyClient(address, wait_s=5.0) as client:
            found.append(client.about)
    for address, other in zip(addresses, found, strict=True):
        if other != found[0]:
            raise BenchmarkError(
                f"{address} serves {other.checkpoint_hash[:12]} and {addresses[0]} "
                f"{found[0].checkpoint_hash[:12]}, or with other steps: serve one checkpoint "
                "with the same options at all addresses"
            )
    return found[0]


@contextmanager
def _server(
    checkpoint: Path, address: str, arguments: Sequence[str]
) -> Iterator[subprocess.Popen[str]]:
    command = [*SERVE, "--checkpoint", checkpoint, "--address", address, *arguments]
    process = children.start(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        children.end(process)


def _line_within(process: subprocess.Popen[str], limit_s: float) -> str:
    """Return the next line of a process, which is killed if it takes longer than ``limit_s``."""
    timer = threading.Timer(limit_s, process.kill)
    timer.start()
    line = process.stdout.readline()
    timer.cancel()
    return line
