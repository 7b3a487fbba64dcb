"""What the connection adds to a call: a server in a process of its own that answers at once."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

import numpy as np

from dfm_vla_ros.errors import ConnectionFailed
from dfm_vla_ros.remote.client import PolicyClient
from dfm_vla_ros.remote.protocol import About, ActReply, ActRequest
from dfm_vla_ros.remote.server import PolicyServer

WARM_UP = 20
HORIZON, ACTIONS, STATE = 8, 7, 8
START_S = 60.0


@dataclass(frozen=True)
class Overhead:
    """Time of a call without what the policy took [s].

    Attributes:
        median_s: over the calls.
        p99_s: 99th percentile.
        bytes: of a request's images.
    """

    median_s: float
    p99_s: float
    bytes: int


def request(cameras: int, size: int) -> ActRequest:
    """Return a request with ``cameras`` random images of ``size`` px square."""
    random = np.random.default_rng(0)
    images = {
        f"camera{index}": random.integers(0, 256, (size, size, 3), dtype=np.uint8)
        for index in range(cameras)
    }
    state = np.zeros(STATE)
    return ActRequest(images, state, state, "pick up the black bowl", 0)


def measure(address: str, calls: int, asked: ActRequest) -> Overhead:
    """Return what the connection at ``address`` adds to each of ``calls``."""
    spent_s = []
    with served(address, tuple(asked.images)) as bound, PolicyClient(bound) as client:
        for _ in range(WARM_UP + calls):
            began_s = time.perf_counter()
            reply = client.act(asked)
            spent_s.append(time.perf_counter() - began_s - reply.seconds)
    kept = np.array(spent_s[WARM_UP:])
    size = sum(image.nbytes for image in asked.images.values())
    return Overhead(float(np.median(kept)), float(np.percentile(kept, 99)), size)


@contextmanager
def served(address: str, cameras: tuple[str, ...]) -> Iterator[str]:
    """Yield where a process serves zeros.

    Raises:
        ConnectionFailed: it did not begin.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(address, cameras, there), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(START_S):
            raise ConnectionFailed(f"the server at {address} did not begin within {START_S:g} s")
        yield here.recv()
    except EOFError as error:
        raise ConnectionFailed(f"the server at {address} did not begin; see above") from error
    finally:
        process.terminate()
        process.join()


def _serve(address: str, cameras: tuple[str, ...], ready: Pipe) -> None:
    names = tuple(f"joint{index}" for index in range(STATE))
    about = About(
        checkpoint_hash="",
        cameras=cameras,
        image_sizes={},
        state_names=names,
        action_names=names[:ACTIONS],
        horizon=HORIZON,
        execute_steps=HORIZON,
        control_period_s=0.05,
        tasks={},
    )
    reply = ActReply(np.zeros((HORIZON, ACTIONS)), 0.0, 16)
    server = PolicyServer(lambda asked: reply, about, address)
    ready.send(server.address)
    server.serve_forever()
