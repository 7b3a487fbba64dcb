"""Where a policy is served: ``127.0.0.1:5560``, or the path of a local socket."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from dfm_vla_ros.errors import ConnectionFailed

DEFAULT_ADDRESS = "127.0.0.1:5560"
WAITING = 8
"""Clients that the kernel keeps until they are accepted."""


@dataclass(frozen=True)
class Address:
    """A host and a port, or a path.

    Attributes:
        host: name or number; empty if ``path`` is given.
        port: 0 to let the kernel choose when listening.
        path: of a socket that lies in the file system, for the user who made it alone.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """Return what :func:`parse_address` reads."""
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether no other machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def _family(self) -> socket.AddressFamily:
        if self.path:
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def connect(self, timeout_s: float) -> socket.socket:
        """Return a socket that is connected.

        Raises:
            ConnectionFailed: nobody listens there, or no answer came within ``timeout_s``.
        """
        sock = socket.socket(self._family)
        sock.settimeout(timeout_s)
        try:
            sock.connect(self.path or (self.host, self.port))
        except (OSError, ValueError) as error:
            sock.close()
            raise ConnectionFailed(
                f"no policy at {self} ({error}): start dfm-vla serve --address {self}"
            ) from error
        return prepared(sock)

    def listen(self, allow_remote: bool = False) -> socket.socket:
        """Return a socket that listens.

        Raises:
            ConnectionFailed: others could reach the address and that was not allowed, or it is
                taken.
        """
        if not self.is_local and not allow_remote:
            raise ConnectionFailed(
                f"{self} can be reached from other machines, which nothing here keeps out: give "
                f"{DEFAULT_ADDRESS} or the path of a socket, or allow it (--allow-remote)"
            )
        self._remove_stale()
        sock = socket.socket(self._family)
        try:
            if not self.path:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(self.path or (self.host, self.port))
            if self.path:
                os.chmod(self.path, stat.S_IRUSR | stat.S_IWUSR)
            sock.listen(WAITING)
        except (OSError, ValueError) as error:
            sock.close()
            raise ConnectionFailed(f"cannot listen at {self}: {error}; choose another") from error
        return sock

    def _remove_stale(self) -> None:
        """Remove the socket that a dead server left at the path."""
        if not self.path or not Path(self.path).is_socket():
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(self.path)
            except ConnectionRefusedError:
                Path(self.path).unlink(missing_ok=True)
            except OSError:
                return  # in use: bind says so


def parse_address(text: str) -> Address:
    """Return the address that ``text`` names.

    Raises:
        ConnectionFailed: it is neither HOST:PORT nor a path.
    """
    host, colon, port = text.rpartition(":")
    if "/" in text:
        return Address(path=text)
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConnectionFailed(
            f"address {text!r} is neither HOST:PORT with a port of 0 to 65535, such as "
            f"{DEFAULT_ADDRESS}, nor the path of a socket with a /, such as ./policy.sock"
        )
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def prepared(sock: socket.socket) -> socket.socket:
    """Return a connected socket that sends at once and notices a machine that has gone."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock


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
