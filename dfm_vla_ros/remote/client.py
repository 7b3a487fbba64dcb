"""A policy in another process, as its client sees it. Needs numpy, msgpack and websockets."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Self

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from dfm_vla_ros.errors import ConnectionFailed, PeerLost, PolicyFailed, ProtocolError, TimedOut
from dfm_vla_ros.remote.protocol import (
    LARGEST,
    About,
    ActReply,
    ActRequest,
    decode,
    encode,
    parse_address,
)

RETRY_S = 0.1


class PolicyClient:
    """A connection to ``dfm-vla serve``; not for several threads at once.

    After TimedOut, PeerLost and ProtocolError the connection is closed: make another client.
    """

    def __init__(self, address: str, timeout_s: float = 60.0, wait_s: float = 0.0) -> None:
        """Connect and read what the policy is.

        Args:
            address: ``127.0.0.1:5560`` or the path of a socket.
            timeout_s: bound of every wait: for the connection, and for the answer to a call.
            wait_s: how long to try again while nobody listens.

        Raises:
            ConnectionFailed: nobody listens, or the address is none.
            ProtocolError, TimedOut, PeerLost: it does not answer as a server of policies does.
        """
        self._address, self._timeout_s = parse_address(address), timeout_s
        self._open = ExitStack()
        self._connection = self._connected(time.monotonic() + wait_s)
        try:
            self.about = About.read(self._receive())
        except Exception:
            self.close()
            raise

    def act(self, request: ActRequest) -> ActReply:
        """Return what to do next.

        Raises:
            PolicyFailed: the policy refused the request, and says why; the connection stays.
            ProtocolError: the request is too large (nothing was sent), or the answer is malformed.
            TimedOut: no answer within ``timeout_s``.
            PeerLost: the server has gone.
        """
        data = encode(request)
        try:
            self._connection.send(data)
            return ActReply.read(self._receive(), self.about)
        except (TimedOut, ProtocolError):
            self.close()
            raise
        except (WebSocketException, OSError) as error:
            raise self._lost(error) from error

    def close(self) -> None:
        """Close the connection; a second time nothing happens."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self, until_s: float) -> ClientConnection:
        """Connect, again and again until ``until_s``."""
        while True:
            try:
                return self._connect()
            except ConnectionFailed:
                if time.monotonic() + RETRY_S > until_s:
                    raise
            time.sleep(RETRY_S)

    def _connect(self) -> ClientConnection:
        sock = self._address.connect(self._timeout_s)
        try:
            opening = connect(
                "ws://policy",
                sock=sock,
                compression=None,
                max_size=LARGEST,
                open_timeout=self._timeout_s,
                ping_interval=None,
                close_timeout=1.0,
                proxy=None,
            )
            return self._open.enter_context(opening)
        except TimeoutError as error:
            raise TimedOut(f"{self._address}: no handshake in {self._timeout_s:g} s") from error
        except (WebSocketException, OSError, EOFError) as error:
            sock.close()
            raise ProtocolError(f"{self._address} serves no policies: {error}") from error

    def _receive(self) -> dict:
        """Return the next answer of the server."""
        try:
            frame = self._connection.recv(self._timeout_s)
        except TimeoutError as error:
            raise TimedOut(f"{self._address}: no answer in {self._timeout_s:g} s") from error
        except (WebSocketException, OSError) as error:
            raise self._lost(error) from error
        if isinstance(frame, str):
            raise PolicyFailed(f"the server says: {frame}")
        return decode(frame)

    def _lost(self, error: Exception) -> PeerLost:
        return PeerLost(f"the server at {self._address} has gone ({error}): connect again")
