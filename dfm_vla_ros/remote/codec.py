"""Messages as bytes and back: msgpack, with arrays as ``{dtype, shape, bytes}``. No pickle."""

from __future__ import annotations

import math
import socket
import struct
import time
from contextlib import suppress
from dataclasses import fields
from typing import Any, Self

import msgpack
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import PeerLost, ProtocolError, TimedOut
from dfm_vla_ros.remote.messages import (
    About,
    ActReply,
    ActRequest,
    Alive,
    Failure,
    Health,
    Hello,
    Message,
    refused,
    shown,
)

KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Hello, About, ActRequest, ActReply, Health, Alive, Failure)
}
DTYPES = {"uint8": "|u1", "float32": "<f4", "float64": "<f8", "int64": "<i8"}
ARRAY = {"dtype", "shape", "bytes"}
MOST_DIMENSIONS = 4
DEEPEST = 4
"""Mappings and lists in one another."""


def encode(message: Message) -> bytes:
    """Return a message as bytes.

    Raises:
        ProtocolError: an array's dtype is not of the list.
    """
    content = {part.name: getattr(message, part.name) for part in fields(message)}
    packed: bytes = msgpack.packb(
        {"kind": type(message).__name__, "fields": content}, default=_pack
    )
    return packed


def decode(data: bytes | bytearray | memoryview) -> Message:
    """Return the message in ``data``, all of it checked.

    Raises:
        ProtocolError: it is no such message; names the field, the value and what is expected.
    """
    try:
        content = msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_no_extension)
    except (ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"{len(data)} bytes are no msgpack: {error}") from error
    if not isinstance(content, dict) or set(content) != {"kind", "fields"}:
        raise refused("the message", content, "a mapping of kind and fields")
    kind, given = content["kind"], content["fields"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise refused("the message's kind", kind, f"one of {', '.join(KINDS)}")
    return _message(KINDS[kind], given)


def _message(kind: type[Message], given: object) -> Message:
    if not isinstance(given, dict):
        raise refused(f"{kind.__name__}.fields", given, "a mapping")
    wanted = {part.name for part in fields(kind)}
    if set(given) != wanted:
        odd = sorted(map(str, set(given) ^ wanted))
        raise ProtocolError(f"{kind.__name__}.{odd[0]} is missing or none of {sorted(wanted)}")
    return kind(**{k: _restored(v, f"{kind.__name__}.{k}") for k, v in given.items()})


def _pack(value: object) -> dict[str, Any]:
    """Return an array as msgpack can hold it."""
    if not isinstance(value, np.ndarray) or value.dtype.name not in DTYPES:
        raise refused("a value to send", value, f"an array of {', '.join(DTYPES)}")
    data = value.astype(DTYPES[value.dtype.name], copy=False).tobytes()
    return {"dtype": value.dtype.name, "shape": list(value.shape), "bytes": data}


def _restored(value: Any, where: str, depth: int = 1) -> Any:
    """Return a value with its arrays."""
    if depth > DEEPEST:
        raise ProtocolError(f"{where} lies deeper than {DEEPEST} mappings and lists")
    if isinstance(value, dict):
        if set(value) == ARRAY:
            return _array(value, where)
        return {key: _restored(v, f"{where}[{key!r}]", depth + 1) for key, v in value.items()}
    if isinstance(value, list):
        return [_restored(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
    return value


def _array(value: dict[str, Any], where: str) -> NDArray[Any]:
    dtype, shape, data = value["dtype"], value["shape"], value["bytes"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise refused(f"{where}.dtype", dtype, f"one of {', '.join(DTYPES)}")
    sound = isinstance(shape, list) and len(shape) <= MOST_DIMENSIONS
    if not sound or not all(type(side) is int and 0 <= side <= 2**31 for side in shape):
        raise refused(f"{where}.shape", shape, f"at most {MOST_DIMENSIONS} sides of at least 0")
    expected = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if not isinstance(data, bytes) or len(data) != expected:
        found = f"{len(data)} bytes" if isinstance(data, bytes) else shown(data)
        raise ProtocolError(f"{where}.bytes is {found}, expected {expected} bytes of {dtype}")
    # A copy: what lies in the message cannot be written to.
    return np.frombuffer(data, DTYPES[dtype]).astype(dtype).reshape(shape)


def _no_extension(code: int, data: bytes) -> None:
    raise ValueError(f"extension type {code} of {len(data)} bytes is not used here")


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
