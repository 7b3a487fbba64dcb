"""Ends a process at a signal in bounded time, also in the middle of a long call."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

END_S = 10.0
"""How long what was begun may take to end by itself."""


def end_at(
    numbers: Sequence[signal.Signals], end: Callable[[], None], within_s: float = END_S
) -> None:
    """Call ``end`` at any of the signals; SIGALRM kills the process if it then lasts too long.

    A handler of Python waits for the main thread, which may be in a call of minutes; the thread
    that is started here does not, unless the call holds the interpreter's lock, which those of
    torch do not. Call it from the main thread.

    Args:
        numbers: of the signals.
        end: makes the main thread end; is called in another thread.
        within_s: after ``end`` [s].
    """
    ours, pythons = socket.socketpair()
    pythons.setblocking(False)
    signal.set_wakeup_fd(pythons.fileno())
    for number in numbers:
        signal.signal(number, _nothing)
    arguments = (ours, pythons, end, within_s)
    threading.Thread(target=_watch, args=arguments, name="ending", daemon=True).start()


def leave() -> NoReturn:
    """Exit with 0 at once: taking torch apart costs a second of a processor."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _nothing(number: int, frame: object) -> None:
    """Let Python write the signal's number instead of ending the process."""


def _watch(
    ours: socket.socket, pythons: socket.socket, end: Callable[[], None], within_s: float
) -> None:
    """Wait for a signal; ``pythons`` is where Python writes it, and stays open meanwhile."""
    ours.recv(1)
    # By the kernel, which needs no thread of ours.
    signal.setitimer(signal.ITIMER_REAL, within_s)
    end()
    threading.Event().wait()  # with both sockets open, for further signals
