"""Nodes as child processes: started together, watched, and none left behind."""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.nodes.qos import local

_PR_SET_PDEATHSIG = 1


def follow(parent: int, death: int) -> None:
    """Ask for signal ``death`` when ``parent`` ends; exit at once if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Run the module given on the command line."""
    parent, death, module = sys.argv[1:4]
    follow(int(parent), int(death))
    sys.argv = [module, *sys.argv[4:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()


PATIENCE_S = 10.0
"""A child that SIGINT has not ended by then is killed."""


class NodeDied(DfmVlaError):
    """A node ended by itself; the message holds its last words."""


@dataclass
class Child:
    """One process.

    Attributes:
        name: for people, and of the log file.
        command: without the interpreter.
        log: gets stdout and stderr.
    """

    name: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen | None = field(default=None, init=False)

    def start(self, environment: Mapping[str, str]) -> None:
        """Start in a process group of its own: Ctrl-C reaches the parent only."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, if it still lives."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def wait(self, until_s: float) -> None:
        """Wait until a time of the steady clock; then kill."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def last_words(self, lines: int = 15) -> str:
        """Return the end of the log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])


class Children:
    """The processes of one graph; as a context manager it ends them all, come what may."""

    def __init__(self, domain: int, logs: Path) -> None:
        """Put all children into one ROS domain of this machine alone."""
        self._logs = logs
        self.members: dict[str, Child] = {}
        self.sessions: set[int] = set()
        """Of every process ever started here: each child leads one."""
        self.environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            **local(),
            "ROS_LOG_DIR": str(logs),
            "PYTHONUNBUFFERED": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        """Of every child."""

    def start(
        self, name: str, module: str, *arguments: str, death: signal.Signals = signal.SIGKILL
    ) -> Child:
        """Start ``python -m module arguments``; it gets ``death`` if this process is killed."""
        wrapper = ["-m", "dfm_vla_ros.graph.processes", str(os.getpid()), str(int(death))]
        child = Child(name, [*wrapper, module, *arguments], self._logs / f"{name}.log")
        self.members[name] = child
        child.start(self.environment)
        assert child.process is not None
        self.sessions.add(child.process.pid)
        return child

    def start_node(
        self,
        name: str,
        parameters: Mapping[str, Any],
        death: signal.Signals = signal.SIGKILL,
    ) -> Child:
        """Start a node of this package with ROS parameters."""
        module = f"dfm_vla_ros.nodes.{name}"
        return self.start(name, module, *node_arguments(parameters), death=death)

    def check(self) -> None:
        """Raise NodeDied if a child has ended."""
        for child in self.members.values():
            code = None if child.process is None else child.process.poll()
            if code is not None:
                raise NodeDied(
                    f"{child.name} ended with status {code}; its last words "
                    f"({child.log}):\n{child.last_words()}"
                )

    def stop(self, *names: str) -> None:
        """End the named children, or all: SIGINT, and SIGKILL for those that stay."""
        chosen = [self.members.pop(name) for name in names or tuple(self.members)]
        for child in chosen:
            child.signal(signal.SIGINT)
        until_s = time.monotonic() + PATIENCE_S
        for child in chosen:
            child.wait(until_s)

    def __enter__(self) -> Children:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every child."""
        self.stop()


def node_arguments(parameters: Mapping[str, Any]) -> list[str]:
    """Return the command line of a node with these parameters."""
    given = [("-p", f"{key}:={_text(value)}") for key, value in parameters.items()]
    return ["--ros-args", *(word for pair in given for word in pair)]


def _text(value: Any) -> str:
    """Return a parameter's value as YAML: a path stays a text, a number keeps its type."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_text(item) for item in value) + "]"
    if isinstance(value, (str, Path)):
        return "'" + str(value).replace("'", "''") + "'"
    return repr(value)
