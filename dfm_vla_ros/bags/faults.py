"""What is wrong with a bag, and where; the rest of it is read all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dfm_vla_ros.errors import DfmVlaError


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
        """Hold none yet."""
        self._found: dict[tuple[str, str], Fault] = {}

    def add(self, where: str, kind: str, what: str, at_ns: int | None = None) -> None:
        """Note a fault; of a ``kind`` known in this place only the number is kept."""
        known = self._found.get((where, kind))
        if known is None:
            self._found[where, kind] = Fault(where, what, at_ns)
        else:
            known.count += 1

    def __iter__(self) -> Iterator[Fault]:
        """Yield them in the order in which they were found."""
        return iter(self._found.values())

    def __len__(self) -> int:
        """Return the number of places and kinds."""
        return len(self._found)
