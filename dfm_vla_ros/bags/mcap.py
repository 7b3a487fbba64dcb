"""MCAP files record by record, whole or cut short.

A recorder that was killed leaves a file without an index, and the last chunk torn. rosbags wants
the index; this reader does without. Format: https://mcap.dev/spec (version 0).
"""

from __future__ import annotations

import bisect
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import lz4.frame
from backports import zstd

from dfm_vla_ros.bags.storage import Channel, Raw
from dfm_vla_ros.errors import Faults

MAGIC = b"\x89MCAP0\r\n"
FOOTER_BYTES = 9 + 20 + len(MAGIC)
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 1, 2, 3, 4, 5, 6, 0xF
CHUNK_INDEX, STATISTICS = 8, 0xB
HEAD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")
CHUNK_HEAD = struct.Struct("<QQQI")
GARBLED = (struct.error, UnicodeDecodeError, KeyError, IndexError)
"""What reading bytes that are no record raises."""
BLOCK = 1 << 16
GROUP = 1000
"""Messages outside chunks that are handed on together."""

DECOMPRESSORS: dict[str, Callable[[], object]] = {
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
}


class McapFile:
    """One file of a bag."""

    def __init__(self, path: Path, faults: Faults) -> None:
        """Learn the channels: from the index, or without one from the whole file."""
        self.path, self._faults = path, faults
        self.channels: dict[int, Channel] = {}
        self._schemas: dict[int, tuple[str, str, str]] = {}
        self._chunks: list[int] = []
        """Where chunks begin, by the index."""
        self.indexed = self._ended = False
        with path.open("rb") as file:
            self.indexed = self._read_index(file)
        if not self.indexed:
            quiet, self._faults = self._faults, Faults()
            for _ in self.read():
                pass
            self._faults = quiet

    def _read_index(self, file: BinaryIO) -> bool:
        """Return whether channels and chunks are known from the summary at the end."""
        size = file.seek(0, 2)
        if size < len(MAGIC) + FOOTER_BYTES:
            return False
        file.seek(-FOOTER_BYTES, 2)
        footer = file.read()
        self._ended = footer.endswith(MAGIC)
        if not self._ended or HEAD.unpack_from(footer) != (FOOTER, 20):
            return False
        (start,) = struct.unpack_from("<Q", footer, HEAD.size)
        if not len(MAGIC) < start < size:
            return False
        file.seek(start)
        try:
            self._take_all(memoryview(file.read(size - FOOTER_BYTES - start)), [])
        except GARBLED:
            return False
        return bool(self.channels)

    def read(self) -> Iterator[list[tuple[Channel, Raw]]]:
        """Yield the messages chunk by chunk, each in order of receipt; note what is torn."""
        with self.path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            start = file.read(len(MAGIC))
            if start != MAGIC:
                said = f"begins with {start!r}: no MCAP file" if start else "is empty: 0 bytes"
                self._fault("magic", said)
                return
            yield from self._read(file, size)

    def _read(self, file: BinaryIO, size: int) -> Iterator[list[tuple[Channel, Raw]]]:
        loose: list[tuple[Channel, Raw]] = []
        at = len(MAGIC)
        while at is not None:
            file.seek(at)
            head = file.read(HEAD.size)
            kind, length = HEAD.unpack(head) if len(head) == HEAD.size else (0, 0)
            if kind in (FOOTER, DATA_END):
                if not self._ended:
                    self._fault("cut", f"cut off at byte {size}: its index is torn")
                break
            left = size - at - HEAD.size
            whole = kind != 0 and length <= left and not self._hides_a_chunk(at, length)
            if kind == CHUNK:
                yield loose
                loose = []
                yield self._chunk(file.read(min(length, left)), at, whole)
            elif whole and kind in (SCHEMA, CHANNEL, MESSAGE):
                loose += self._records(_packed(kind, file.read(length)), at)
            at = at + HEAD.size + length if whole else self._resume(at, kind, length, left)
            if len(loose) >= GROUP:
                yield loose
                loose = []
        yield loose

    def _hides_a_chunk(self, at: int, length: int) -> bool:
        """Return whether the record at ``at`` would, by the index, have a chunk inside."""
        after = bisect.bisect_right(self._chunks, at)
        return after < len(self._chunks) and self._chunks[after] < at + HEAD.size + length

    def _resume(self, at: int, kind: int, length: int, left: int) -> int | None:
        """Return where reading goes on after a record that is not whole; None at the end."""
        after = bisect.bisect_right(self._chunks, at)
        if after < len(self._chunks):
            following = self._chunks[after]
            self._fault("garbled", f"no record at byte {at}; goes on at byte {following}")
            return following
        if left < 0:
            self._fault("cut", f"cut off at byte {at}: no end of the recording, no index")
        elif kind == 0:
            self._fault("garbled", f"no record at byte {at}; {left + HEAD.size} bytes are lost")
        else:
            self._fault(
                "cut", f"cut off in a record at byte {at}: {left} of its {length} bytes are there"
            )
        return None

    def _chunk(self, data: bytes, at: int, whole: bool) -> list[tuple[Channel, Raw]]:
        """Return the messages of a chunk; of a torn one those before the tear."""
        try:
            start, _, size, checksum = CHUNK_HEAD.unpack_from(data)
            name, offset = _text(data, CHUNK_HEAD.size)
            content, torn = _decompress(data[offset + 8 :], name, size)
        except GARBLED as error:
            if whole:
                self._fault("chunk", f"chunk at byte {at} is no chunk: {error!r}")
            return []
        if checksum and len(content) == size and zlib.crc32(content) != checksum:
            torn = "its checksum is wrong"
        if whole and torn:
            self._fault("chunk", f"chunk at byte {at} is corrupt: {torn}", start)
        found = self._records(memoryview(content), at)
        return sorted(found, key=lambda message: message[1].received_ns)

    def _records(self, data: memoryview, at: int) -> list[tuple[Channel, Raw]]:
        """Return the messages of whole records in ``data``; learn its channels."""
        found: list[tuple[Channel, Raw]] = []
        try:
            self._take_all(data, found)
        except GARBLED as error:
            self._fault("record", f"a record in the chunk at byte {at} is garbled: {error!r}")
        return found

    def _take_all(self, data: memoryview, found: list[tuple[Channel, Raw]]) -> None:
        """Append the messages to ``found``; learn schemas, channels and where chunks are."""
        at = 0
        while at + HEAD.size <= len(data):
            kind, length = HEAD.unpack_from(data, at)
            at += HEAD.size
            if at + length > len(data):
                break
            record = data[at : at + length]
            at += length
            if kind == MESSAGE:
                number, _, received_ns, _ = MESSAGE_HEAD.unpack_from(record)
                channel = self.channels[number]
                found.append((channel, Raw(received_ns, record[MESSAGE_HEAD.size :])))
            elif kind == SCHEMA:
                self._take_schema(record)
            elif kind == CHANNEL:
                self._take_channel(record)
            elif kind == CHUNK_INDEX:
                bisect.insort(self._chunks, struct.unpack_from("<Q", record, 16)[0])

    def _take_schema(self, record: memoryview) -> None:
        (number,) = struct.unpack_from("<H", record)
        name, at = _text(record, 2)
        encoding, at = _text(record, at)
        definition, _ = _text(record, at)
        self._schemas[number] = (name, encoding, definition)

    def _take_channel(self, record: memoryview) -> None:
        number, schema = struct.unpack_from("<HH", record)
        topic, at = _text(record, 4)
        encoding, _ = _text(record, at)
        if number not in self.channels:
            name, language, definition = self._schemas.get(schema, ("", "", ""))
            self.channels[number] = Channel(topic, name, encoding, language, definition)

    def _fault(self, kind: str, what: str, at_ns: int | None = None) -> None:
        self._faults.add(self.path.name, kind, what, at_ns)


def _packed(kind: int, record: bytes) -> memoryview:
    return memoryview(HEAD.pack(kind, len(record)) + record)


def _text(data: bytes | memoryview, at: int) -> tuple[str, int]:
    """Return the string at ``at`` and where the next field begins."""
    (length,) = struct.unpack_from("<I", data, at)
    end = at + 4 + length
    if end > len(data):
        raise IndexError(f"a text of {length} bytes ends beyond its record")
    return str(data[at + 4 : end], "utf-8"), end


def _decompress(data: bytes, name: str, size: int) -> tuple[bytes, str]:
    """Return what there is of ``size`` bytes, and what is wrong if data is torn or corrupt."""
    found, torn = bytearray(), ""
    unpacker = DECOMPRESSORS[name]() if name else None
    try:
        for start in range(0, len(data), BLOCK):
            if unpacker is None:
                found += data[start : start + BLOCK]
            elif not unpacker.eof:
                found += unpacker.decompress(data[start : start + BLOCK])
    except (RuntimeError, EOFError, zstd.ZstdError) as error:
        torn = str(error)
    if not torn and len(found) < size:
        torn = f"{len(found)} of its {size} bytes are there"
    return bytes(found[:size]), torn


SUFFIXES = (".db3", ".db3-wal", ".db3-shm")
BATCH = 200


class SqliteFile:
    """One file of a bag."""

    def __init__(self, path: Path, faults: Faults) -> None:
        """Read the topics."""
        self.path, self._faults = path, faults
        self.channels: dict[int, Channel] = {}
        self.indexed = True
        if not path.stat().st_size:
            return
        try:
            with closing(self._connect()) as database:
                self.channels = _channels(database)
        except sqlite3.DatabaseError as error:
            self._fault("topics", f"its topics cannot be read: {error}")

    def read(self) -> Iterator[list[tuple[Channel, Raw]]]:
        """Yield messages in the order in which they were written; note what is torn."""
        if not self.path.stat().st_size:
            self._fault("empty", "is empty: 0 bytes")
            return
        row = 0
        try:
            with closing(self._connect()) as database:
                # By row, not by time: the index of times may be what is damaged.
                rows = database.execute(
                    "SELECT id, topic_id, timestamp, data FROM messages ORDER BY id"
                )
                while batch := rows.fetchmany(BATCH):
                    row = batch[-1][0]
                    yield [
                        (self.channels[topic], Raw(received_ns, data))
                        for _, topic, received_ns, data in batch
                        if topic in self.channels
                    ]
        except sqlite3.DatabaseError as error:
            self._fault("cut", f"cannot be read after row {row}: {error}")

    def _connect(self) -> sqlite3.Connection:
        """Open it read-only; what a killed recorder left in the write-ahead log counts too."""
        log = self.path.with_name(f"{self.path.name}-wal")
        how = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
        database = sqlite3.connect(f"{self.path.absolute().as_uri()}?{how}", uri=True)
        # sqlite3 then reads of a file cut short what there is, rather than nothing.
        database.execute("PRAGMA writable_schema=ON")
        return database

    def _fault(self, kind: str, what: str) -> None:
        self._faults.add(self.path.name, kind, what)


def _channels(database: sqlite3.Connection) -> dict[int, Channel]:
    """Return the topics with the definitions of their types, where the file has them."""
    try:
        rows = database.execute(
            "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
        )
        definitions = {kind: (language, text) for kind, language, text in rows}
    except sqlite3.OperationalError:  # up to Humble there is no such table
        definitions = {}
    rows = database.execute("SELECT id, name, type, serialization_format FROM topics")
    return {
        number: Channel(topic, kind, encoding, *definitions.get(kind, ("", "")))
        for number, topic, kind, encoding in rows
    }
