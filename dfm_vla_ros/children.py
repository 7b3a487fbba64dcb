"""Child processes: each leads a group of its own, dies with its parent, and ends when told to.

Run as a script it becomes the command it is given, after asking the kernel for a signal at its
parent's death; the request survives ``exec``, so any program can be started this way.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATIENCE_S = 10.0
"""How long a child may take to end by itself before it is killed."""
PR_SET_PDEATHSIG = 1


def start(
    command: Sequence[str | Path], death: signal.Signals = signal.SIGKILL, **options: Any
) -> subprocess.Popen:
    """Start ``command`` in a session of its own, so that Ctrl-C reaches this process only.

    Args:
        command: program and arguments.
        death: signal that the child gets when this process ends, however it ends.
        options: of ``subprocess.Popen``.

    Raises:
        FileNotFoundError: there is no such program.
    """
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        raise FileNotFoundError(f"{words[0]} is no program that can be run")
    wrapper = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death))]
    return subprocess.Popen([*wrapper, *words], start_new_session=True, **options)


def send(process: subprocess.Popen, number: signal.Signals) -> None:
    """Send a signal to the child's whole group, if the child still lives."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def end(
    *processes: subprocess.Popen,
    number: signal.Signals = signal.SIGTERM,
    patience_s: float = PATIENCE_S,
) -> None:
    """End children together: ask with ``number``, wait, and kill the groups of those that stay."""
    alive = [process for process in processes if process.poll() is None]
    for process in alive:
        send(process, number)
    until_s = time.monotonic() + patience_s
    try:
        for process in alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until_s - time.monotonic()))
    finally:  # also where a second Ctrl-C ends the waiting
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with whatever the child itself started
            process.wait()


def last_lines(log: Path, count: int = 15) -> str:
    """Return the end of what a child wrote to its log."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return "\n".join(text.splitlines()[-count:])


def _become(parent: int, death: int, command: Sequence[str]) -> None:
    import ctypes  # here only: whoever starts children needs none of it

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death)
    if os.getppid() != parent:  # it ended before the request
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    _become(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
