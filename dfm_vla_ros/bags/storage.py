"""What the files of a bag hold, whatever their format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Channel:
    """A topic as one file has it.

    Attributes:
        topic: its absolute name.
        kind: type of its messages.
        encoding: of them; "cdr" is understood.
        language: of the definition: ros2msg, ros2idl or nothing.
        definition: of the type, or nothing.
    """

    topic: str
    kind: str
    encoding: str
    language: str = ""
    definition: str = ""


class Raw(NamedTuple):
    """A message as it is stored."""

    received_ns: int
    data: bytes | memoryview
