"""A policy server in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dfm_vla_ros.remote.protocol import About, ActReply, ActRequest
from dfm_vla_ros.remote.server import PolicyServer

ABOUT = About("c0ffee", ("a",), {"a": (4, 4)}, ("x", "y"), ("z",), 3, 2, 0.1, {"t": "go"})
# The tests wait so long on busy cores too; what they bound is far below.
PATIENCE_S = 60.0


def asked(seed: int = 0) -> ActRequest:
    """Return a request that the policy can use."""
    image = np.full((4, 4, 3), seed % 256, dtype=np.uint8)
    return ActRequest({"a": image}, np.array([1.0, 2.0]), np.zeros(2), "go", seed)


def echo(request: ActRequest) -> ActReply:
    """Act as a policy whose actions are the seed."""
    return ActReply(np.full((3, 1), float(request.seed)), 0.25, 16)


@contextmanager
def serving(
    act: Callable[[ActRequest], ActReply], address: Path | str, about: About = ABOUT
) -> Iterator[PolicyServer]:
    """Serve in a thread until the end of the block."""
    server = PolicyServer(act, about, str(address))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
