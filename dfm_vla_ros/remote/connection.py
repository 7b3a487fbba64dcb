"""Messages over a socket, whole or not at all: frames with a length, every wait bounded.

A frame is ``DFM1``, the length of the body as four bytes (big-endian), the body.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress
from typing import Self

from dfm_vla_ros.remote.codec import decode, encode
from dfm_vla_ros.remote.errors import PeerLost, ProtocolError, TimedOut
from dfm_vla_ros.remote.messages import Message

MAGIC = b"DFM1"
HEADER = struct.Struct("!4sI")
LARGEST = 64 * 2**20
"""Bytes of a body, unless told otherwise."""
PART = 2**20


class Connection:
    """One side of a connection. Not for several threads at once, but for ``interrupt``."""

    def __init__(self, sock: socket.socket, largest: int = LARGEST) -> None:
        """Use a connected socket; refuse bodies of more than ``largest`` bytes, both ways."""
        self._socket, self._largest = sock, largest

    def send(self, message: Message, within_s: float) -> None:
        """Send a message.

        Raises:
            ProtocolError: it is too large; nothing was sent.
            TimedOut: the other side did not take it in time.
            PeerLost: the other side has gone.
        """
        body = encode(message)
        name = type(message).__name__
        self._check_size(len(body), name)
        try:
            self._socket.settimeout(max(within_s, 1e-3))
            self._socket.sendall(HEADER.pack(MAGIC, len(body)) + body)
        except TimeoutError as error:
            raise TimedOut(
                f"{name} of {len(body)} bytes was not taken within {within_s:g} s"
            ) from error
        except OSError as error:
            raise PeerLost(f"the other side went while {name} was sent: {error}") from error

    def receive(self, begins_s: float | None, within_s: float) -> Message:
        """Return the next message.

        Args:
            begins_s: how long to wait for its first byte [s]; None: as long as it takes.
            within_s: how long all that follows may take [s].

        Raises:
            TimedOut: nothing came, or the message is not whole in time.
            ProtocolError: it is malformed or too large.
            PeerLost: the other side has gone.
        """
        first = self._read(1, begins_s, "a message")
        deadline = time.monotonic() + within_s
        rest = self._read(HEADER.size - 1, within_s, "a message's header")
        magic, length = HEADER.unpack(bytes(first + rest))
        if magic != MAGIC:
            raise ProtocolError(
                f"a message begins with {magic!r}, expected {MAGIC!r}: this is another protocol"
            )
        self._check_size(length, "a message")
        left_s = deadline - time.monotonic()
        return decode(self._read(length, left_s, f"a message of {length} bytes"))

    def _check_size(self, length: int, name: str) -> None:
        if length > self._largest:
            raise ProtocolError(
                f"{name} has {length} bytes, allowed are {self._largest}: send smaller images"
            )

    def _read(self, count: int, within_s: float | None, what: str) -> bytearray:
        """Return ``count`` bytes that come within ``within_s``."""
        deadline = None if within_s is None else time.monotonic() + within_s
        data = bytearray()
        while len(data) < count:
            try:
                self._socket.settimeout(_left(deadline))
                part = self._socket.recv(min(count - len(data), PART))
            except OSError as error:
                if isinstance(error, TimeoutError) and within_s is not None:
                    raise TimedOut(
                        f"{what}: {len(data)} of {count} bytes came within {within_s:.3g} s"
                    ) from error
                raise PeerLost(f"the other side went: {error}") from error
            if not part:
                raise PeerLost(f"the other side closed the connection before {what} was whole")
            data += part
        return data

    def close(self, linger_s: float = 0.0) -> None:
        """Close; first read on for at most ``linger_s``, or what was sent last could be lost."""
        with suppress(OSError), self._socket:
            self._socket.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + linger_s
            while (left_s := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left_s)
                if not self._socket.recv(PART):
                    return

    def interrupt(self) -> None:
        """Let whoever waits here, in another thread, find the connection closed."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _left(deadline: float | None) -> float | None:
    """Return the time left [s], for ``settimeout``."""
    if deadline is None:
        return None
    return max(deadline - time.monotonic(), 1e-6)
