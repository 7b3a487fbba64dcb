"""The nodes of a graph as child processes: started together, watched, and none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dfm_vla_ros import children
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.nodes.qos import local


class NodeDied(DfmVlaError):
    """A node ended by itself; the message holds the end of its log."""


@dataclass(frozen=True)
class Child:
    """One node's process; ``log`` gets its stdout and stderr."""

    name: str
    log: Path
    process: subprocess.Popen

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, if the process still lives."""
        children.send(self.process, number)

    def last_words(self) -> str:
        """Return the end of the log."""
        return children.last_lines(self.log)


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

    def start(
        self, name: str, module: str, *arguments: str, death: signal.Signals = signal.SIGKILL
    ) -> Child:
        """Start ``python -m module arguments``; it gets ``death`` if this process is killed."""
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{name}.log"
        with log.open("wb") as output:
            process = children.start(
                [sys.executable, "-m", module, *arguments],
                death,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.members[name] = Child(name, log, process)
        self.sessions.add(process.pid)
        return self.members[name]

    def start_node(
        self, name: str, parameters: Mapping[str, Any], death: signal.Signals = signal.SIGKILL
    ) -> Child:
        """Start a node of this package with ROS parameters."""
        module = f"dfm_vla_ros.nodes.{name}"
        return self.start(name, module, *node_arguments(parameters), death=death)

    def check(self) -> None:
        """Raise NodeDied if a child has ended."""
        for child in self.members.values():
            code = child.process.poll()
            if code is not None:
                raise NodeDied(
                    f"{child.name} ended with status {code}; its last words "
                    f"({child.log}):\n{child.last_words()}"
                )

    def stop(self, *names: str, patience_s: float = children.PATIENCE_S) -> None:
        """End the named children, or all: SIGINT, and SIGKILL for those that stay."""
        chosen = [self.members.pop(name).process for name in names or tuple(self.members)]
        children.end(*chosen, number=signal.SIGINT, patience_s=patience_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def node_arguments(parameters: Mapping[str, Any]) -> list[str]:
    """Return the command line of a node with these parameters."""
    given = [("-p", f"{key}:={_yaml(value)}") for key, value in parameters.items()]
    return ["--ros-args", *(word for pair in given for word in pair)]


def _yaml(value: Any) -> str:
    """Return a parameter's value as YAML: a path stays a text, a number keeps its type."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_yaml(item) for item in value) + "]"
    if isinstance(value, (str, Path)):
        return "'" + str(value).replace("'", "''") + "'"
    return repr(value)
