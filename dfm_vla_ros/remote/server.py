"""Serves a policy to any number of clients; its calls come one after another."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.remote.protocol import (
    DEFAULT_ADDRESS,
    LARGEST,
    About,
    ActReply,
    ActRequest,
    Address,
    decode,
    encode,
    parse_address,
)

END_S = 10.0
"""How long a call may go on after a signal has asked the process to end."""


class PolicyServer:
    """Answers what ``PolicyClient``, or openpi's client, asks.

    All calls of ``act`` are made in one thread. An error becomes a text frame, and the connection
    stays: whatever arrives, the server goes on.
    """

    def __init__(
        self,
        act: Callable[[ActRequest], ActReply],
        about: About,
        address: str = DEFAULT_ADDRESS,
        *,
        allow_remote: bool = False,
        thread: ThreadPoolExecutor | None = None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Listen; clients wait until ``serve_forever``.

        Args:
            act: the policy.
            about: what the policy is.
            address: HOST:PORT (port 0: any that is free) or the path of a socket.
            allow_remote: whether other machines may connect; nothing is encrypted.
            thread: where ``act`` is called; None: a new one.
            log: gets a line for each client that comes, goes or is refused.

        Raises:
            ConnectionFailed: the address is taken or not allowed.
        """
        self._act, self._about, self._log = act, about, log
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix="policy")
        wanted = parse_address(address)
        listener = wanted.listen(allow_remote)
        host, port = listener.getsockname()[:2] if not wanted.path else ("", 0)
        self._address = wanted if wanted.path else Address(host, port)
        self._server = serve(
            self._serve,
            sock=listener,
            compression=None,
            max_size=LARGEST,
            process_request=_healthy,
            logger=_quiet_logger(),
        )

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self._address)

    def serve_forever(self) -> None:
        """Serve until ``close``."""
        try:
            self._server.serve_forever()
        finally:
            self.close()

    def close(self) -> None:
        """Stop listening, close the connections, end ``serve_forever`` after the present call."""
        if self._address.path:
            Path(self._address.path).unlink(missing_ok=True)
        self._server.shutdown()

    def _serve(self, connection: ServerConnection) -> None:
        """Send the metadata, then answer one client until it goes."""
        client = f"client {connection.id.hex[:8]}"
        self._log(f"serving {client}")
        try:
            connection.send(encode(self._about))
            for frame in connection:
                self._answer(connection, client, frame)
        except ConnectionClosed as error:
            self._log(f"{client} was lost: {error}")
        else:
            self._log(f"{client} has gone")

    def _answer(self, connection: ServerConnection, client: str, frame: str | bytes) -> None:
        began_s = time.perf_counter()
        try:
            request = ActRequest.read(decode(_binary(frame)), self._about)
            content = self._thread.submit(self._act, request).result().content()
            spent_ms = (time.perf_counter() - began_s) * 1000.0
            answer: str | bytes = encode({**content, "server_timing": {"infer_ms": spent_ms}})
        except DfmVlaError as error:
            answer = str(error)
        except Exception as error:  # noqa: BLE001 - no request may end the server
            answer = f"the policy broke: {error!r}"
        if isinstance(answer, str):
            self._log(f"{client} got an error: {answer}")
        connection.send(answer)


def serve_until_signal(server: PolicyServer, within_s: float = END_S) -> NoReturn:
    """Serve until SIGINT or SIGTERM, then exit with 0; a call gets ``within_s`` to end."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    # The calls are made in another thread, so that this one sees a signal at once.
    while not ended.wait(1.0) and serving.is_alive():
        pass
    closing = threading.Thread(target=server.close, daemon=True)
    closing.start()
    closing.join(within_s)
    sys.stdout.flush()
    sys.stderr.flush()
    # Taking torch apart costs a second of a processor.
    os._exit(0)


def _binary(frame: str | bytes) -> bytes:
    return frame if isinstance(frame, bytes) else frame.encode()


def _healthy(connection: ServerConnection, request: Request) -> Response | None:
    """Answer GET /healthz, as openpi's server does."""
    if request.path != "/healthz":
        return None
    return Response(200, "OK", Headers({"Content-Length": "3"}), b"OK\n")


def _quiet_logger() -> logging.Logger:
    """Return a logger that keeps a stranger's broken handshake out of the output."""
    logger = logging.getLogger("dfm_vla_ros.remote")
    logger.setLevel(logging.CRITICAL)
    return logger
