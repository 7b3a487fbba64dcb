"""Signals that end a command, whatever code they happen to interrupt.

Python raises KeyboardInterrupt wherever the main thread is. In a C extension that can come out as
another exception (rclpy turns it into a RuntimeError while it converts a message), an error
handler may put its own error in its place, and in ``__del__`` it is dropped. So the handler here
also notes the signal: loops that wait call `check`, and a command that fails after a signal ends
with the status of that signal.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

_noted: list[int] = []


@contextmanager
def noted() -> Iterator[None]:
    """Note SIGINT, and what `listen` adds, while the block runs; main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    _noted.clear()
    if before[signal.SIGINT] is signal.default_int_handler:  # else the caller ignores it
        listen(signal.SIGINT)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(number: signal.Signals) -> None:
    """Let a signal end the command as Ctrl-C does, with its own status."""
    signal.signal(number, _interrupt)


def _interrupt(number: int, frame: object) -> NoReturn:
    _noted.append(number)
    raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt if a signal came and its exception got lost."""
    if _noted:
        raise KeyboardInterrupt


def status() -> int | None:
    """Return the exit status that the first signal asks for; None if none came."""
    return 128 + _noted[0] if _noted else None
