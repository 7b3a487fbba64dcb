"""Bytes to messages, by the definitions that the bag itself carries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rosbags.typesys import get_types_from_idl, get_types_from_msg
from rosbags.typesys.store import Typestore

from dfm_vla_ros.bags.storage import Channel
from dfm_vla_ros.bags.types import PACKAGE, typestore

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
            self._store.fielddefs.pop(kind, None)
            self._store.register(wanted)
        except Exception as error:  # noqa: BLE001 - the parser raises many kinds
            self.unknown[kind] = f"its definition of {kind} is unreadable: {error!r}"

    def decode(self, data: bytes | memoryview, kind: str) -> Any:
        """Return the message; raises whatever the bytes deserve."""
        return self._store.deserialize_cdr(data, kind)


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
