"""Bytes to messages, by the definitions that the bag itself carries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rosbags.typesys import get_types_from_idl, get_types_from_msg
from rosbags.typesys.store import Typestore

from dfm_vla_ros.bags.storage import Channel
from dfm_vla_ros.bags.types import PACKAGE, typestore, zero

IDL = "=" * 80 + "\nIDL: "


class Decoder:
    """Decodes the messages of a bag.

    Jazzy's types and this package's are known; others, and other versions of this package's, are
    learnt from the bag.
    """

    def __init__(self, channels: Iterable[Channel]) -> None:
        """Learn the types of ``channels``."""
        self._store: Typestore = typestore()
        self.unknown: dict[str, str] = {}
        """Type -> why it cannot be decoded."""
        self.older: dict[str, dict[str, Any]] = {}
        """Type of this package -> fields that the bag's version lacks, with what they count as."""
        for channel in {channel.kind: channel for channel in channels}.values():
            self._learn(channel)

    def _learn(self, channel: Channel) -> None:
        kind = channel.kind
        known = kind in self._store.fielddefs
        if known and not (kind.startswith(f"{PACKAGE}/") and channel.definition):
            return
        if not channel.definition:
            self.unknown[kind] = f"no definition of {kind} is in the bag"
            return
        try:
            found = _definitions(channel)
            wanted = {
                name: fields
                for name, fields in found.items()
                if name == kind or name not in self._store.fielddefs
            }
            _, today = self._store.fielddefs.pop(kind, ((), ()))
            self._store.register(wanted)
            self._compare(kind, today)
        except Exception as error:  # noqa: BLE001 - the parser raises many kinds
            self.unknown[kind] = f"its definition of {kind} is unreadable: {error!r}"

    def _compare(self, kind: str, today: Iterable[tuple[str, Any]]) -> None:
        """Note which of today's fields the definition in the bag lacks."""
        there = {name for name, _ in self._store.fielddefs[kind][1]}
        lacking = {name: field for name, field in today if name not in there}
        if lacking:
            self.older[kind] = {name: zero(self._store, field) for name, field in lacking.items()}

    def decode(self, data: bytes | memoryview, kind: str) -> Any:
        """Return the message; raises whatever the bytes deserve."""
        message = self._store.deserialize_cdr(data, kind)
        for name, value in self.older.get(kind, {}).items():
            setattr(message, name, value)
        return message


def _definitions(channel: Channel) -> dict[str, Any]:
    """Return type -> fields of a definition and of all it is made of."""
    text = channel.definition
    if channel.language != "ros2idl":
        return get_types_from_msg(text, channel.kind)
    if not text.startswith(IDL):
        return get_types_from_idl(text)
    found: dict[str, Any] = {}
    for part in text.split("=" * 80 + "\n")[1:]:
        found.update(get_types_from_idl(part.split("\n", 1)[1]))
    return found
