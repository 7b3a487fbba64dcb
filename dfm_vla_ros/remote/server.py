"""Serves a policy to one client at a time."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dfm_vla_ros.errors import (
    DfmVlaError,
    PeerLost,
    ProtocolError,
    RemoteError,
    TimedOut,
    VersionMismatch,
)
from dfm_vla_ros.remote.addresses import DEFAULT_ADDRESS, Address, parse_address, prepared
from dfm_vla_ros.remote.codec import LARGEST, Connection
from dfm_vla_ros.remote.messages import (
    LONGEST_TEXT,
    PROTOCOL,
    About,
    ActReply,
    ActRequest,
    Alive,
    Failure,
    Health,
    Hello,
    Message,
    check_request,
)

MESSAGE_S = 5.0
POLL_S = 0.2
FREE_WITHIN_S = 0.25
"""How long a new client waits for the last one, which may be about to be gone."""
LINGER_S = 1.0


class PolicyServer:
    """Answers what ``PolicyClient`` asks.

    ``act`` is called in the thread of ``serve_forever`` alone, and never with a request that is
    malformed or lacks what ``about`` asks for. Whoever connects while a client is served gets the
    failure ``busy``.
    """

    def __init__(
        self,
        act: Callable[[ActRequest], ActReply],
        about: About,
        address: str = DEFAULT_ADDRESS,
        *,
        allow_remote: bool = False,
        message_s: float = MESSAGE_S,
        largest: int = LARGEST,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Listen; clients wait until ``serve_forever``.

        Args:
            act: the policy; a DfmVlaError becomes a failure and the connection stays, anything
                else ends the server.
            about: what the policy is.
            address: HOST:PORT (port 0: any that is free) or the path of a socket.
            allow_remote: whether other machines may connect; nothing is encrypted.
            message_s: how long a message may take from its first byte, and the first one to come.
            largest: bytes of a message.
            log: gets a line for each client that comes, goes or is refused.

        Raises:
            ConnectionFailed: the address is taken or not allowed.
        """
        wanted = parse_address(address)
        self._act, self._about, self._log = act, about, log
        self._message_s, self._largest = message_s, largest
        self._listener = wanted.listen(allow_remote)
        self._listener.settimeout(POLL_S)
        self._address = wanted if wanted.path else _bound(self._listener)
        self._free, self._closed = threading.Semaphore(), threading.Event()
        # SimpleQueue: close() may be called by a signal's handler.
        self._admitted: queue.SimpleQueue[Connection | None] = queue.SimpleQueue()
        self._served: Connection | None = None
        self._client, self._calls, self._began_s = "nobody", 0, time.monotonic()

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self._address)

    def serve_forever(self) -> None:
        """Serve one client after another until ``close``."""
        accepting = threading.Thread(target=self._accept, name="accept", daemon=True)
        accepting.start()
        try:
            while (connection := self._admitted.get()) is not None:
                self._served = connection
                if self._closed.is_set():
                    break
                self._serve(connection)
                self._served, self._client = None, "nobody"
                self._free.release()
        finally:
            self.close()
            accepting.join()

    def close(self) -> None:
        """End ``serve_forever`` (after the call that it is in) and stop listening."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._listener.close()
        if self._address.path:
            Path(self._address.path).unlink(missing_ok=True)
        if (served := self._served) is not None:
            served.interrupt()
        self._admitted.put(None)

    def _accept(self) -> None:
        """Let a client in if none is served, else tell it so."""
        while not self._closed.is_set():
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return  # closed
            connection = Connection(prepared(sock), self._largest)
            if self._free.acquire(timeout=FREE_WITHIN_S):
                self._admitted.put(connection)
            else:
                self._log(f"refused a client: {self._client} is served")
                self._refuse(connection, _failure("busy", self._busy()), FREE_WITHIN_S)

    def _busy(self) -> str:
        return (
            f"{self.address} serves {self._client}, and one client at a time: wait until it has "
            "ended, or start another server at another address"
        )

    def _refuse(self, connection: Connection, failure: Failure, linger_s: float) -> None:
        """Say why and close."""
        with suppress(RemoteError):
            connection.send(failure, LINGER_S)
        connection.close(linger_s)

    def _serve(self, connection: Connection) -> None:
        """Answer one client until it goes or says what cannot be understood."""
        try:
            self._greet(connection)
            while True:
                message = connection.receive(None, self._message_s)
                connection.send(self._answer(message), self._message_s)
        except PeerLost as error:
            self._log(f"{self._client} has gone: {error}")
            connection.close()
        except (ProtocolError, TimedOut, VersionMismatch) as error:
            self._log(f"{self._client} is dropped: {error}")
            self._refuse(connection, _failure(error.code, str(error)), LINGER_S)
        except Exception as error:
            self._refuse(connection, _failure("crash", f"the policy broke: {error!r}"), 0.0)
            raise

    def _greet(self, connection: Connection) -> None:
        hello = connection.receive(self._message_s, self._message_s)
        if not isinstance(hello, Hello):
            raise ProtocolError(f"the first message is {type(hello).__name__}, expected Hello")
        if hello.protocol != PROTOCOL:
            raise VersionMismatch(
                f"the server speaks version {PROTOCOL}, the client {hello.client} "
                f"{hello.protocol}: install the same release on both sides"
            )
        self._client = hello.client
        self._log(f"serving {hello.client}")
        connection.send(self._about, self._message_s)

    def _answer(self, message: Message) -> Message:
        if isinstance(message, Health):
            return Alive(self._calls, time.monotonic() - self._began_s)
        if not isinstance(message, ActRequest):
            raise ProtocolError(f"{type(message).__name__} came, expected ActRequest or Health")
        try:
            check_request(self._about, message)
        except ProtocolError as error:
            return _failure("request", str(error))
        try:
            reply = self._act(message)
        except DfmVlaError as error:
            return _failure("policy", str(error))
        self._calls += 1
        return reply


def _bound(listener: socket.socket) -> Address:
    """Return where a socket listens."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)


def _failure(code: str, message: str) -> Failure:
    return Failure(code, message[:LONGEST_TEXT])
