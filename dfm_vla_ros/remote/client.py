"""A policy in another process, as its client sees it."""

from __future__ import annotations

import os
import time
from typing import Self, TypeVar

from dfm_vla_ros.errors import (
    ConnectionFailed,
    PeerLost,
    PolicyFailed,
    ProtocolError,
    RemoteError,
    TimedOut,
    VersionMismatch,
)
from dfm_vla_ros.remote.addresses import parse_address
from dfm_vla_ros.remote.codec import LARGEST, Connection
from dfm_vla_ros.remote.messages import (
    PROTOCOL,
    About,
    ActReply,
    ActRequest,
    Alive,
    Failure,
    Health,
    Hello,
    Message,
    check_reply,
    check_request,
)

Reply = TypeVar("Reply", bound=Message)
RETRY_S = 0.1
RAISED: tuple[type[RemoteError], ...] = (ProtocolError, VersionMismatch, TimedOut)


class PolicyClient:
    """A connection to ``dfm-vla serve``.

    Not for several threads at once. After TimedOut, PeerLost and ProtocolError the connection is
    closed: make another client.
    """

    def __init__(
        self,
        address: str,
        timeout_s: float = 60.0,
        wait_s: float = 0.0,
        name: str = "",
        largest: int = LARGEST,
    ) -> None:
        """Connect and say hello.

        Args:
            address: ``127.0.0.1:5560`` or the path of a socket.
            timeout_s: bound of every wait: for the connection, and for the answer to a call.
            wait_s: how long to try again while nobody listens or another client is served.
            name: who this is, for the server's log and for other clients.
            largest: bytes of a message.

        Raises:
            ConnectionFailed: nobody listens, or the address is none.
            PolicyFailed: another client is served.
            VersionMismatch: the server speaks another version.
            ProtocolError, TimedOut, PeerLost: it does not answer as a server of policies does.
        """
        self._address, self._timeout_s = parse_address(address), timeout_s
        self._hello = Hello(PROTOCOL, name or f"process {os.getpid()}")
        self._closed: str = ""
        self._connection, self.about = self._greeted(time.monotonic() + wait_s, largest)

    def act(self, request: ActRequest) -> ActReply:
        """Return what to do next.

        Raises:
            ProtocolError: the request lacks what the policy asks for (nothing was sent, the
                connection stays) or is too large, or the answer is malformed.
            PolicyFailed: the policy refused the request; the connection stays.
            TimedOut: no answer within ``timeout_s``.
            PeerLost: the server has gone.
        """
        check_request(self.about, request)
        reply = self._call(request, ActReply)
        try:
            check_reply(self.about, reply)
        except ProtocolError:
            self.close("its answer had another shape")
            raise
        return reply

    def alive(self) -> Alive:
        """Return how the server is; raises as ``act`` does."""
        return self._call(Health(), Alive)

    def close(self, why: str = "it was closed") -> None:
        """Close the connection; a second time nothing happens."""
        if not self._closed:
            self._closed = why
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, message: Message, expected: type[Reply]) -> Reply:
        if self._closed:
            raise PeerLost(
                f"the connection to {self._address} is closed because {self._closed}: "
                "connect again"
            )
        try:
            return _exchange(self._connection, message, expected, self._timeout_s)
        except (PeerLost, ProtocolError, TimedOut, VersionMismatch) as error:
            self.close(str(error))
            raise

    def _greeted(self, until_s: float, largest: int) -> tuple[Connection, About]:
        """Connect, again and again until ``until_s``."""
        while True:
            try:
                return self._greet(largest)
            except (ConnectionFailed, PolicyFailed) as error:
                busy = not isinstance(error, PolicyFailed) or error.reason == "busy"
                if not busy or time.monotonic() + RETRY_S > until_s:
                    raise
            time.sleep(RETRY_S)

    def _greet(self, largest: int) -> tuple[Connection, About]:
        connection = Connection(self._address.connect(self._timeout_s), largest)
        try:
            about = _exchange(connection, self._hello, About, self._timeout_s)
            if about.protocol != PROTOCOL:
                raise VersionMismatch(_versions(about.protocol))
        except RemoteError:
            connection.close()
            raise
        return connection, about


def _exchange(
    connection: Connection, message: Message, expected: type[Reply], timeout_s: float
) -> Reply:
    """Send a message and return its answer, all within ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    lost: PeerLost | None = None
    try:
        connection.send(message, timeout_s)
    except PeerLost as error:
        lost = error  # the server may have said why before it went
    left_s = max(deadline - time.monotonic(), 0.0)
    try:
        reply = connection.receive(left_s, left_s)
    except PeerLost as error:
        raise lost or error from error
    if isinstance(reply, Failure):
        raise _raised(reply)
    if not isinstance(reply, expected):
        raise ProtocolError(
            f"{type(message).__name__} was answered by {type(reply).__name__}, "
            f"expected {expected.__name__}"
        )
    return reply


def _raised(failure: Failure) -> RemoteError:
    """Return the server's failure as the error that it is here."""
    for kind in RAISED:
        if failure.code == kind.code:
            return kind(f"the server says: {failure.message}")
    return PolicyFailed(f"the server says: {failure.message}", failure.code)


def _versions(other: int) -> str:
    return f"the server speaks version {other}, this client {PROTOCOL}: install the same release"
