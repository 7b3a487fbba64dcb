"""A server in a thread of the test, and clients that do not keep to the protocol."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dfm_vla_ros.remote.addresses import parse_address
from dfm_vla_ros.remote.codec import HEADER, MAGIC, Connection, encode
from dfm_vla_ros.remote.messages import PROTOCOL, About, ActReply, ActRequest, Hello, Message
from dfm_vla_ros.remote.server import PolicyServer

ABOUT = About(PROTOCOL, "c0ffee", ("a",), {"a": (4, 4)}, ("x", "y"), ("z",), 3, 2, 0.1, {})
# The tests wait so long on busy cores too; what they bound is far below.
PATIENCE_S = 60.0
SLOW_S = 0.4


def asked(seed: int = 0) -> ActRequest:
    """Return a request that the policy can use."""
    image = np.full((4, 4, 3), seed % 256, dtype=np.uint8)
    return ActRequest({"a": image}, np.array([1.0, 2.0]), np.zeros(2), "go", seed)


class Counting:
    """A policy that says the seed and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, request: ActRequest) -> ActReply:
        self.calls += 1
        return ActReply(np.full((3, 1), float(request.seed)), 0.0, 16)


@contextmanager
def serving(
    act: Callable[[ActRequest], ActReply], folder: Path, message_s: float = PATIENCE_S
) -> Iterator[PolicyServer]:
    """Serve in a thread until the end of the block."""
    server = PolicyServer(act, ABOUT, f"{folder}/policy.sock", message_s=message_s)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def raw(address: str) -> socket.socket:
    """Return a socket that is connected to a server."""
    return parse_address(address).connect(PATIENCE_S)


def greeted(address: str) -> tuple[socket.socket, Connection]:
    """Return a socket whose client has said hello."""
    sock = raw(address)
    connection = Connection(sock)
    connection.send(Hello(PROTOCOL, "test"), PATIENCE_S)
    connection.receive(PATIENCE_S, PATIENCE_S)
    return sock, connection


def frame(body: bytes) -> bytes:
    """Return ``body`` with its header."""
    return HEADER.pack(MAGIC, len(body)) + body


@contextmanager
def answering(folder: Path, *answers: bytes | Message | None) -> Iterator[str]:
    """Listen and answer the messages of one client by ``answers``; None: say nothing.

    After the last one the connection closes.
    """
    address = f"{folder}/other.sock"
    listener = parse_address(address).listen()

    def run() -> None:
        sock, _ = listener.accept()
        with sock:
            connection = Connection(sock)
            for answer in answers:
                connection.receive(PATIENCE_S, PATIENCE_S)
                if answer is None:
                    ended.wait(PATIENCE_S)
                else:
                    data = answer if isinstance(answer, bytes) else frame(encode(answer))
                    sock.sendall(data)

    ended, thread = threading.Event(), threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield address
    finally:
        ended.set()
        thread.join(PATIENCE_S)
        listener.close()


def seconds(began_s: float) -> float:
    """Return the time since ``began_s``."""
    return time.monotonic() - began_s
