"""Simulator processes: jobs go in, answers come out, and one that dies is started again."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self

from dfm_vla_ros.errors import SimulatorLost
from dfm_vla_ros.resources import PACKAGE

START_LIMIT_S = 300.0
"""The first start compiles for a while."""
END_LIMIT_S = 5.0
SHOWN_LINES = 3
Assign = Callable[[int, Any], Any]
"""Takes the number of a worker and a job; returns the job for that worker."""


@dataclass(frozen=True)
class Program:
    """What runs in a simulator's own environment.

    Attributes:
        python: interpreter of that environment.
        module: of this package; reads a job a line, answers a line.
        arguments: of the module.
        answer: class of the answers; has a field ``error``.
        lost: fields of the answer that stands for a job whose process was lost.
        hint: what else to try where it does not start.
    """

    python: Path
    module: str
    arguments: tuple[str, ...]
    answer: type
    lost: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""


class SimulatorProcess:
    """One process of the simulator; a context manager."""

    def __init__(self, program: Program, log: Path) -> None:
        """Start it; what it prints goes to ``log``.

        Raises:
            SimulatorLost: it does not start.
        """
        self._program, self._log, self._closed = program, log, False
        log.parent.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix="simulator_code_")
        # This package alone: our other libraries would come before the simulator's.
        (Path(self._folder.name) / PACKAGE.name).symlink_to(PACKAGE)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(program.python), "-m", program.module, *program.arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=_environment(self._folder.name),
                text=True,
            )
        self.about: dict[str, Any] = json.loads(self._line(START_LIMIT_S))

    def ask(self, job: Any, limit_s: float) -> Any:
        """Return the answer to a job, which has a ``record()`` for JSON.

        Raises:
            SimulatorLost: the process died, or took longer than ``limit_s`` and was ended.
        """
        assert self._process.stdin is not None, "made with a pipe"
        try:
            print(json.dumps(job.record()), file=self._process.stdin, flush=True)
        except BrokenPipeError as error:
            raise SimulatorLost(self._why(limit_s)) from error
        return self._program.answer(**json.loads(self._line(limit_s)))

    def close(self) -> None:
        """End it; a second time nothing happens."""
        if not self._closed:
            self._closed = True
            self._process.kill()
            self._process.communicate()
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

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
        try:
            code: int | str = self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            code = "it hangs"
        self.close()
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = " | ".join(lines[-SHOWN_LINES:]) or "nothing"
        return (
            f"the simulator's process ended ({code}), or took more than {limit_s:g} s; it said: "
            f"{said}; all of it is in {self._log}{self._program.hint}"
        )


class SimulatorPool:
    """Several simulator processes that share groups of jobs; a context manager.

    The jobs of a group run in order in one process: with placements that are drawn once for each
    task an episode depends on those before it.
    """

    def __init__(self, program: Program, workers: int, folder: Path) -> None:
        """Start one process, which tells what it is; the others start when they are needed.

        Args:
            program: of the simulator.
            workers: how many processes.
            folder: where the logs go.

        Raises:
            SimulatorLost: it does not start.
        """
        self._program, self._folder = program, folder
        self._processes: list[SimulatorProcess | None] = [None] * workers
        self._stopped = threading.Event()
        self.about = self._started(0).about

    def run(
        self, groups: Sequence[Sequence[Any]], assign: Assign, limit_s: float
    ) -> Iterator[tuple[Any, Any]]:
        """Yield every job with its answer, as they end."""
        waiting: Queue[Sequence[Any]] = Queue()
        for group in groups:
            waiting.put(group)
        ended: Queue[tuple[Any, Any]] = Queue()
        arguments = (waiting, ended, assign, limit_s)
        for number in range(len(self._processes)):
            threading.Thread(target=self._work, args=(number, *arguments), daemon=True).start()
        for _ in range(sum(map(len, groups))):
            yield ended.get()

    def close(self) -> None:
        """End all processes."""
        self._stopped.set()
        for process in self._processes:
            if process is not None:
                process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _work(
        self,
        number: int,
        waiting: Queue[Sequence[Any]],
        ended: Queue[tuple[Any, Any]],
        assign: Assign,
        limit_s: float,
    ) -> None:
        while not self._stopped.is_set():
            try:
                group = waiting.get_nowait()
            except Empty:
                return
            for job in group:
                if not self._stopped.is_set():
                    ended.put((job, self._answer(number, assign(number, job), limit_s)))

    def _answer(self, number: int, job: Any, limit_s: float) -> Any:
        try:
            return self._started(number).ask(job, limit_s)
        except SimulatorLost as error:
            self._processes[number] = None
            return self._program.answer(**self._program.lost, error=f"SimulatorLost: {error}")

    def _started(self, number: int) -> SimulatorProcess:
        process = self._processes[number]
        if process is None:
            log = self._folder / f"simulator{number}.log"
            process = self._processes[number] = SimulatorProcess(self._program, log)
        return process


def _environment(code: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # Its small matrices only wait for one another on several threads.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return threads | kept | {"PYTHONPATH": code, "PYTHONUNBUFFERED": "1"}
