"""Reads a recording: rosbag2's folders, MCAP or sqlite3, or one file; what is torn is reported."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from backports import zstd
from rosbags.typesys import get_types_from_idl, get_types_from_msg
from rosbags.typesys.store import Typestore

from dfm_vla_ros.bags.storage import (
    PACKAGE,
    Channel,
    McapFile,
    Raw,
    SqliteFile,
    in_order,
    typestore,
    zero,
)
from dfm_vla_ros.errors import BagError, Faults

METADATA = "metadata.yaml"
SUFFIXES = (".mcap", ".db3")
PACKED = tuple(f"{suffix}.zstd" for suffix in SUFFIXES)
BLOCK = 1 << 20
IDL = "=" * 80 + "\nIDL: "
ZSTD = b"\x28\xb5\x2f\xfd"
"""A message that begins so is compressed by itself; CDR begins with a zero."""
WINDOW_NS = 10**9
"""How far messages may be from the order in which they came [ns]."""


@dataclass(frozen=True)
class Listing:
    """The files of a bag in the order of time, and what metadata.yaml counts in them.

    Attributes:
        paths: of the files.
        messages: how many there must be; None if nothing tells.
        topics: topic -> type, also of topics without messages.
    """

    paths: list[Path]
    messages: int | None = None
    topics: dict[str, str] = field(default_factory=dict)


def list_files(path: Path, faults: Faults) -> Listing:
    """Find the files of a bag; a listing that is missing or wrong is noted.

    Raises:
        BagError: there are none.
    """
    if path.is_file() and path.name.endswith((*SUFFIXES, *PACKED)):
        return Listing([path])
    if not path.exists():
        raise BagError(f"{path} does not exist: give the folder of a bag, or its .mcap file")
    if not path.is_dir():
        raise BagError(f"{path} is no bag: give its folder, or a file ending in .mcap or .db3")
    found, listing = _by_name(path), _listing(path, faults)
    if listing is None:
        if not found:
            raise BagError(
                f"{path} is no bag: it holds neither {METADATA} nor .mcap or .db3 files"
            )
        return Listing(found)
    missing = [listed for listed in listing.paths if not listed.is_file()]
    for listed in missing:
        faults.add(listed.name, "missing", f"is listed in {METADATA} and missing")
    there = [listed for listed in listing.paths if listed not in missing]
    if not there and not found:
        raise BagError(f"{path} has lost all of its files: {', '.join(p.name for p in missing)}")
    return replace(listing, paths=there or found)


def _by_name(folder: Path) -> list[Path]:
    """Return the data files of a folder; bag_10 comes after bag_9."""
    files = [file for file in folder.iterdir() if file.name.endswith((*SUFFIXES, *PACKED))]

    def key(file: Path) -> list[tuple[int, str]]:
        return [(int(part or -1), text) for text, part in re.findall(r"(\D*)(\d*)", file.name)]

    return sorted(files, key=key)


def _listing(folder: Path, faults: Faults) -> Listing | None:
    """Return what metadata.yaml says, or None if it is of no use."""
    path = folder / METADATA
    if not path.exists():
        faults.add(METADATA, "missing", "is missing: was the recorder killed?")
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content = content["rosbag2_bagfile_information"]
        topics = [entry["topic_metadata"] for entry in content["topics_with_message_count"]]
        return Listing(
            [folder / Path(name).name for name in content["relative_file_paths"]],
            int(content["message_count"]),
            {topic["name"]: topic["type"] for topic in topics},
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        faults.add(METADATA, "corrupt", f"cannot be read, files are taken by name: {reason}")
        return None


def unpack(path: Path, stack: ExitStack, faults: Faults) -> Path:
    """Return ``path``, or what a file that is compressed as a whole holds, up to a tear."""
    if not path.name.endswith(PACKED):
        return path
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dfm_vla_bag_"))
    unpacked = Path(folder) / path.name.removesuffix(".zstd")
    with path.open("rb") as source, unpacked.open("wb") as target:
        unpacker = zstd.ZstdDecompressor()
        problem = ""
        try:
            while not unpacker.eof and (block := source.read(BLOCK)):
                target.write(unpacker.decompress(block))
        except zstd.ZstdError as error:
            problem = f": {error}"
        if problem or not unpacker.eof:
            what = f"cannot be unpacked beyond byte {source.tell()}{problem}"
            faults.add(path.name, "packed", what)
    return unpacked


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
        kind, ours = channel.kind, channel.kind.startswith(f"{PACKAGE}/")
        if kind in self._store.fielddefs and not (ours and channel.definition):
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

    def __exit__(self, *error: object) -> None:
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
        for raw in in_order(self._raw(topics), lambda raw: raw.received_ns, WINDOW_NS):
            message = self._decode(raw)
            if message is not None:
                yield message

    def _raw(self, topics: Collection[str] | None) -> Iterator[Raw]:
        """Yield undecoded messages; compare their number with what it should be."""
        count = 0
        self.start_ns = 0
        for raw in chain.from_iterable(file.read() for file in self._files):
            count += 1
            self.start_ns = self.start_ns or raw.received_ns
            known = raw.channel.kind not in self._decoder.unknown
            if known and (topics is None or raw.channel.topic in topics):
                yield raw
        if self._expected is not None and count != self._expected:
            what = f"{count} messages are there, its metadata counts {self._expected}"
            self.faults.add(self.path.name, "count", what)

    def _decode(self, raw: Raw) -> Message | None:
        channel, received_ns, data = raw
        try:
            if channel.encoding != "cdr":
                raise ValueError(f"its encoding is {channel.encoding!r}, understood is cdr")
            if data[:4] == ZSTD:
                data = zstd.decompress(data)
            value = self._decoder.decode(data, channel.kind)
        except Exception as error:  # noqa: BLE001 - foreign bytes raise many kinds
            what = f"torn message of {len(data)} bytes: {error}"
            self.faults.add(channel.topic, "torn", what, received_ns)
            return None
        return Message(channel.topic, channel.kind, received_ns, value)


def _open(path: Path, faults: Faults) -> McapFile | SqliteFile:
    return McapFile(path, faults) if path.suffix == ".mcap" else SqliteFile(path, faults)
