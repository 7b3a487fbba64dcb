"""Reads a recording: rosbag2's folders, MCAP or sqlite3, or one file; what is torn is reported."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from backports import zstd

from dfm_vla_ros.bags.decoding import Decoder
from dfm_vla_ros.bags.faults import BagError, Faults
from dfm_vla_ros.bags.files import list_files, unpack
from dfm_vla_ros.bags.mcap import McapFile
from dfm_vla_ros.bags.order import in_order
from dfm_vla_ros.bags.sqlite import SqliteFile
from dfm_vla_ros.bags.storage import Channel, Raw

ZSTD = b"\x28\xb5\x2f\xfd"
"""A message that begins so is compressed by itself; CDR begins with a zero."""
WINDOW_NS = 10**9
"""How far messages may be from the order in which they came [ns]."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        topic: absolute.
        kind: its type, like ``sensor_msgs/msg/Image``.
        received_ns: when the recorder got it [ns].
        value: with the fields of its type.
    """

    topic: str
    kind: str
    received_ns: int
    value: Any


class Bag:
    """A recording to be read once or more; a context manager.

    Attributes:
        topics: absolute topic -> type.
        faults: what is wrong with it, as far as it was read.
        start_ns: when the first message came that was read so far [ns]; 0 before that.
    """

    def __init__(self, path: Path) -> None:
        """Find the files and what is in them.

        Raises:
            BagError: there is no bag.
        """
        self.path, self.faults, self.start_ns = Path(path), Faults(), 0
        self._stack = ExitStack()
        listing = list_files(self.path, self.faults)
        self._expected = listing.messages
        with ExitStack() as stack:
            self._files = [
                _open(unpack(file, stack, self.faults), self.faults) for file in listing.paths
            ]
            self._stack = stack.pop_all()
        channels = [channel for file in self._files for channel in file.channels.values()]
        self.topics = dict(listing.topics)
        for channel in channels:
            self.topics[channel.topic] = channel.kind
        self._decoder = Decoder(channels)
        for kind, fields in self._decoder.older.items():
            names = ", ".join(fields)
            self.faults.add(kind, "older", f"is of another version, without {names}")
        if not all(file.indexed for file in self._files):
            self._expected = None

    def __enter__(self) -> Bag:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was unpacked."""
        self._stack.close()

    def check(self, topics: Collection[str]) -> None:
        """Refuse topics that nothing can be read of.

        Raises:
            BagError: one is not in the bag, or its type is unknown.
        """
        missing = [topic for topic in topics if topic not in self.topics]
        if missing:
            held = ", ".join(sorted(self.topics)) or "nothing"
            raise BagError(f"{self.path} has no {' and no '.join(missing)}; it holds {held}")
        for topic in topics:
            why = self._decoder.unknown.get(self.topics[topic])
            if why:
                raise BagError(f"{self.path}: {topic} cannot be read: {why}")

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Message]:
        """Yield the messages of ``topics``, or of all whose types are known, as they came.

        Memory is bounded: a chunk, and what came within a second.
        """
        ordered = in_order(self._raw(topics), lambda found: found[1].received_ns, WINDOW_NS)
        for channel, raw in ordered:
            message = self._decode(channel, raw)
            if message is not None:
                yield message

    def _raw(self, topics: Collection[str] | None) -> Iterator[tuple[Channel, Raw]]:
        """Yield undecoded messages; compare their number with what it should be."""
        count = 0
        self.start_ns = 0
        for file in self._files:
            for batch in file.read():
                count += len(batch)
                if batch and not self.start_ns:
                    self.start_ns = batch[0][1].received_ns
                for channel, raw in batch:
                    if self._wants(channel, topics):
                        yield channel, raw
        if self._expected is not None and count != self._expected:
            self.faults.add(
                self.path.name,
                "count",
                f"{count} messages are there, its metadata counts {self._expected}",
            )

    def _wants(self, channel: Channel, topics: Collection[str] | None) -> bool:
        if channel.kind in self._decoder.unknown:
            return False
        return topics is None or channel.topic in topics

    def _decode(self, channel: Channel, raw: Raw) -> Message | None:
        data = raw.data
        try:
            if channel.encoding != "cdr":
                raise ValueError(f"its encoding is {channel.encoding!r}, understood is cdr")
            if data[:4] == ZSTD:
                data = zstd.decompress(data)
            value = self._decoder.decode(data, channel.kind)
        except Exception as error:  # noqa: BLE001 - foreign bytes raise many kinds
            what = f"torn message of {len(raw.data)} bytes: {error}"
            self.faults.add(channel.topic, "torn", what, raw.received_ns)
            return None
        return Message(channel.topic, channel.kind, raw.received_ns, value)


def _open(path: Path, faults: Faults) -> McapFile | SqliteFile:
    return McapFile(path, faults) if path.suffix == ".mcap" else SqliteFile(path, faults)


__all__ = ["Bag", "BagError", "Message"]
