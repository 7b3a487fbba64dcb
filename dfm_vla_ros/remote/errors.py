"""What can go wrong between a client and a policy in another process."""

from __future__ import annotations

from typing import ClassVar

from dfm_vla_ros.errors import DfmVlaError


class RemoteError(DfmVlaError):
    """The connection or what came over it; ``code`` is how a ``Failure`` names it."""

    code: ClassVar[str] = "remote"


class ConnectionFailed(RemoteError):
    """No connection: nobody listens, or the address is none, taken or not allowed."""


class PeerLost(RemoteError):
    """The other side has closed the connection, or is dead."""


class TimedOut(RemoteError):
    """The other side took too long.

    The connection is closed, or a late answer could be taken for that of the next call.
    """

    code = "slow"


class ProtocolError(RemoteError):
    """A message is malformed or too large; nothing was done."""

    code = "protocol"


class VersionMismatch(RemoteError):
    """Client and server speak different versions of the protocol."""

    code = "version"


class PolicyFailed(RemoteError):
    """The server's ``Failure``.

    Attributes:
        reason: ``busy`` (another client is served), ``request`` (well-formed, but not what the
            policy asks for), ``policy`` (the policy refused) or ``crash``.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
