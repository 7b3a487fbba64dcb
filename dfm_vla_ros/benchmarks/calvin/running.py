"""Simulator processes: jobs go in, answers come out, and one that dies is started again."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from dfm_vla_ros.benchmarks.calvin.errors import CalvinError
from dfm_vla_ros.benchmarks.calvin.jobs import Answer, Job
from dfm_vla_ros.resources import PACKAGE

MODULE = "dfm_vla_ros.benchmarks.calvin.worker"
START_LIMIT_S = 300.0
SHOWN_LINES = 3


class SimulatorLost(CalvinError):
    """The simulator's process died or took too long."""


@dataclass(frozen=True)
class Installation:
    """Where the simulator is.

    Attributes:
        python: interpreter that has PyBullet and what calvin_env imports.
        folder: checkout of calvin_env.
    """

    python: Path
    folder: Path


class SimulatorProcess:
    """One process of the simulator."""

    def __init__(self, installation: Installation, log: Path) -> None:
        """Start it; what it prints goes to ``log``.

        Raises:
            SimulatorLost: it does not start.
        """
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._code = tempfile.TemporaryDirectory(prefix="calvin_code_")
        # why: this package alone, or our libraries would come before the simulator's
        (Path(self._code.name) / PACKAGE.name).symlink_to(PACKAGE)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(installation.python), "-m", MODULE, str(installation.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=_environment(self._code.name),
                text=True,
            )
        self.about: dict[str, Any] = json.loads(self._line(START_LIMIT_S))

    def ask(self, job: Job, limit_s: float) -> Answer:
        """Return the answer to a job.

        Raises:
            SimulatorLost: the process died, or took longer than ``limit_s`` and was ended.
        """
        assert self._process.stdin is not None, "made with a pipe"
        try:
            print(json.dumps(job.record()), file=self._process.stdin, flush=True)
        except BrokenPipeError as error:
            raise SimulatorLost(self._why(limit_s)) from error
        return Answer(**json.loads(self._line(limit_s)))

    def close(self) -> None:
        """End it; a second time nothing happens."""
        self._process.kill()
        self._process.communicate()
        self._code.cleanup()

    def _line(self, limit_s: float) -> str:
        assert self._process.stdout is not None, "made with a pipe"
        timer = threading.Timer(limit_s, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line.endswith("\n"):
            raise SimulatorLost(self._why(limit_s))
        return line

    def _why(self, limit_s: float) -> str:
        code = self._process.wait()
        self._code.cleanup()
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = " | ".join(lines[-SHOWN_LINES:]) or "nothing"
        return (
            f"the simulator's process ended ({code}) or took more than {limit_s:g} s; it said: "
            f"{said}; all of it is in {self._log}; where there is no EGL, give --renderer tiny"
        )


class Workers:
    """Simulator processes that share jobs, each with a policy of its own; a context manager."""

    def __init__(self, installation: Installation, policies: list[str], folder: Path) -> None:
        """Start one process, which tells what it is; the others start when they are needed.

        Args:
            installation: of the simulator.
            policies: addresses, one for each process; "" for jobs that play a file.
            folder: where the logs go.

        Raises:
            SimulatorLost: it does not start.
        """
        self._installation, self._policies, self._folder = installation, policies, folder
        self._processes: list[SimulatorProcess | None] = [None] * len(policies)
        self._stopped = threading.Event()
        self.about = self._started(0).about

    def run(self, jobs: Iterable[Job], limit_s: float) -> Iterator[tuple[Job, Answer]]:
        """Yield every job with its answer, as they end."""
        waiting: Queue[Job] = Queue()
        for job in jobs:
            waiting.put(job)
        count, ended = waiting.qsize(), Queue[tuple[Job, Answer]]()
        for number in range(len(self._policies)):
            arguments = (number, waiting, ended, limit_s)
            threading.Thread(target=self._work, args=arguments, daemon=True).start()
        for _ in range(count):
            yield ended.get()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for process in self._processes:
            if process is not None:
                process.close()

    def _work(
        self, number: int, waiting: Queue[Job], ended: Queue[tuple[Job, Answer]], limit_s: float
    ) -> None:
        while not self._stopped.is_set():
            try:
                job = waiting.get_nowait()
            except Empty:
                return
            ended.put((job, self._answer(number, job, limit_s)))

    def _answer(self, number: int, job: Job, limit_s: float) -> Answer:
        try:
            asked = replace(job, policy=self._policies[number])
            return self._started(number).ask(asked, limit_s)
        except SimulatorLost as error:
            lost, self._processes[number] = self._processes[number], None
            if lost is not None:
                lost.close()
            return Answer(error=f"SimulatorLost: {error}")

    def _started(self, number: int) -> SimulatorProcess:
        process = self._processes[number]
        if process is None:
            log = self._folder / f"simulator{number}.log"
            process = self._processes[number] = SimulatorProcess(self._installation, log)
        return process


def _environment(code: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # why: its small matrices only wait for one another on several threads
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return threads | kept | {"PYTHONPATH": code, "PYTHONUNBUFFERED": "1"}
