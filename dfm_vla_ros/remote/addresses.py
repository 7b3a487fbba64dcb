"""Where a policy is served: ``127.0.0.1:5560``, or the path of a local socket."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from dfm_vla_ros.remote.errors import ConnectionFailed

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
