"""The base of every error that this package raises on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


class DfmVlaError(Exception):
    """Something the user can mend; the message names the value, the bound and the remedy."""


class FlowError(DfmVlaError):
    """A path, a distance, a loss or a solver was given something that it cannot use."""


class UnknownTask(DfmVlaError):
    """The task's name is not one of the twin's."""


class CommandRefused(DfmVlaError):
    """A position command is not finite, of the wrong size or outside the joint limits."""


class OutOfReach(DfmVlaError):
    """Inverse kinematics does not reach a pose."""


class TrajectoryRefused(DfmVlaError):
    """A trajectory that a joint_trajectory_controller would reject."""


class UnknownSetting(DfmVlaError):
    """A variation, phrasing, perturbation or demonstrator that does not exist."""


class BenchmarkError(DfmVlaError):
    """A simulator, a policy or a setting cannot be used; the message says what to do."""


class SimulatorLost(BenchmarkError):
    """A simulator's process died or took too long."""


class SceneError(BenchmarkError):
    """A change does not fit a scene."""


class RemoteError(DfmVlaError):
    """The connection to a policy in another process, or what came over it."""


class ConnectionFailed(RemoteError):
    """No connection: nobody listens, or the address is none, taken or not allowed."""


class PeerLost(RemoteError):
    """The other side has closed the connection, or is dead."""


class TimedOut(RemoteError):
    """The other side took too long; its late answer would be taken for that of the next call."""


class ProtocolError(RemoteError):
    """A message is malformed or too large; nothing was done."""


class PolicyFailed(RemoteError):
    """The server answered with an error."""


class BagError(DfmVlaError):
    """A bag, or what was asked of it, of which nothing can be read."""


@dataclass
class Fault:
    """One thing that is wrong.

    Attributes:
        where: file, topic or source.
        what: the first time that it was seen.
        at_ns: time of that, receipt or stamp [ns]; None if there is none.
        count: how often it was seen.
    """

    where: str
    what: str
    at_ns: int | None = None
    count: int = 1

    def text(self, start_ns: int = 0) -> str:
        """Return one line; times count from ``start_ns``."""
        at = "" if self.at_ns is None else f" at {(self.at_ns - start_ns) * 1e-9:.3f} s"
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        return f"{self.where}{at}: {self.what}{more}"


class Faults:
    """Collects them; those of one kind in one place are one, and counted."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Fault] = {}

    def add(self, where: str, kind: str, what: str, at_ns: int | None = None) -> None:
        """Note a fault; of a ``kind`` known in this place only the number is kept."""
        known = self._found.get((where, kind))
        if known is None:
            self._found[where, kind] = Fault(where, what, at_ns)
        else:
            known.count += 1

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._found.values())

    def __len__(self) -> int:
        return len(self._found)
