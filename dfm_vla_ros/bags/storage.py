"""What the files of a bag hold: types of messages, topics, and the records of MCAP and sqlite3."""

from __future__ import annotations

import heapq
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import lz4.frame
import numpy as np
import zstandard
from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.exceptions import EndOfFile, McapError
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader, get_chunk_data_stream
from mcap.summary import Summary
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dfm_vla_ros.errors import Faults
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import ARMS, CAMERAS

PACKAGE = "dfm_vla_ros"
MESSAGES = tuple(
    f"{PACKAGE}/msg/{name}"
    for name in ("ActionChunk", "ExecutorStatus", "PolicyStatus", "PolicyTrace", "TaskStatus")
)

TASK_STATUS, POLICY_STATUS, CHUNKS = "task_status", "policy_node/status", "action_chunk"
LATCHED = (TASK_STATUS, POLICY_STATUS, "executor_node/status")
TOPICS: Mapping[str, str] = {
    **{f"{camera}_camera/image_raw": "sensor_msgs/msg/Image" for camera in CAMERAS},
    **{f"{camera}_camera/camera_info": "sensor_msgs/msg/CameraInfo" for camera in CAMERAS},
    "joint_states": "sensor_msgs/msg/JointState",
    "commanded_joint_states": "sensor_msgs/msg/JointState",
    **{
        f"{arm}_arm_controller/joint_trajectory": "trajectory_msgs/msg/JointTrajectory"
        for arm in ARMS
    },
    CHUNKS: f"{PACKAGE}/msg/ActionChunk",
    TASK_STATUS: f"{PACKAGE}/msg/TaskStatus",
    POLICY_STATUS: f"{PACKAGE}/msg/PolicyStatus",
    "executor_node/status": f"{PACKAGE}/msg/ExecutorStatus",
}
"""What the demo records: relative topic -> type."""

MAGIC = b"\x89MCAP0\r\n"
CHUNK_HEAD_BYTES = 9
BLOCK_BYTES = 1 << 16
SQLITE_ROWS = 200
BROKEN = (
    McapError,
    zstandard.ZstdError,
    struct.error,
    ValueError,
    LookupError,
    RuntimeError,
    OverflowError,
    MemoryError,
)
"""What mcap and its decompressors raise on bytes that are no record."""

Item = TypeVar("Item")


def typestore() -> Typestore:
    """Return Jazzy's types and this package's."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for kind in MESSAGES:
        text = resource_path(f"msg/{kind.rpartition('/')[2]}.msg").read_text(encoding="utf-8")
        store.register(get_types_from_msg(text, kind))
    return store


def make(store: Typestore, kind: str, stamp_ns: int = 0) -> Any:
    """Return a message of zeros and empty texts, stamped if it has a header."""
    _, fields = store.fielddefs[kind]
    message = store.types[kind](**{name: zero(store, field) for name, field in fields})
    if hasattr(message, "header"):
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    return message


def zero(store: Typestore, field: Any) -> Any:
    """Return what a field of a definition holds before anything is put into it."""
    shape, details = field
    if shape == Nodetype.NAME:
        return make(store, details)
    if shape == Nodetype.BASE:
        return "" if details[0] == "string" else False if details[0] == "bool" else 0
    (inner_shape, inner), length = details
    if inner_shape == Nodetype.BASE and inner[0] != "string":
        return np.zeros(length if shape == Nodetype.ARRAY else 0, np.dtype(inner[0]))
    return []


def in_order(
    items: Iterable[Item],
    key: Callable[[Item], int],
    window_ns: int,
    rank: Callable[[Item], int] = lambda _: 0,
) -> Iterator[Item]:
    """Yield ``items`` by time.

    Args:
        items: at most ``window_ns`` from their order. One that is further back means that time
            went back: what came before it goes first.
        key: time of an item [ns].
        window_ns: how long an item waits for earlier ones.
        rank: order of items of one time; those of one rank keep theirs.
    """
    waiting: list[tuple[int, int, int, Item]] = []
    newest_ns = -(2**63)
    for number, item in enumerate(items):
        at_ns = key(item)
        if at_ns < newest_ns - window_ns:
            while waiting:
                yield heapq.heappop(waiting)[3]
            newest_ns = at_ns
        newest_ns = max(newest_ns, at_ns)
        heapq.heappush(waiting, (at_ns, rank(item), number, item))
        while waiting[0][0] < newest_ns - window_ns:
            yield heapq.heappop(waiting)[3]
    while waiting:
        yield heapq.heappop(waiting)[3]


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

    channel: Channel
    received_ns: int
    data: bytes


class McapFile:
    """An MCAP file of a bag.

    Its chunks are read where the index says. A recorder that was killed leaves no index and the
    last chunk torn: such a file is read record by record, and of the torn chunk what is there.
    """

    def __init__(self, path: Path, faults: Faults) -> None:
        """Learn the channels: from the index, or without one from the whole file."""
        self.path, self._faults = path, faults
        self.channels: dict[int, Channel] = {}
        self._schemas: dict[int, records.Schema] = {}
        self._chunks: list[int] = []
        summary = _summary(path)
        self.indexed = summary is not None
        if summary is not None:
            for record in (*summary.schemas.values(), *summary.channels.values()):
                self._take(record)
            self._chunks = sorted({index.chunk_start_offset for index in summary.chunk_indexes})
        else:
            self._faults = Faults()
            for _ in self.read():
                pass
            self._faults = faults

    def read(self) -> Iterator[Raw]:
        """Yield the messages, those of a chunk in order of receipt; note what is torn."""
        with self.path.open("rb") as file:
            start = file.read(len(MAGIC))
            if start != MAGIC:
                said = f"begins with {start!r}: no MCAP file" if start else "is empty: 0 bytes"
                self._fault("magic", said)
            elif self._chunks:
                for at in self._chunks:
                    yield from self._chunk_at(file, at)
            else:
                yield from self._all_records(file)

    def _all_records(self, file: BinaryIO) -> Iterator[Raw]:
        size, at = self.path.stat().st_size, file.tell()
        reader = StreamReader(file, skip_magic=True, emit_chunks=True, record_size_limit=size)
        try:
            for record in reader.records:
                if isinstance(record, records.DataEnd | records.Footer):
                    break
                if isinstance(record, records.Chunk):
                    yield from self._messages(record, at)
                else:
                    yield from self._take(record)
                at = file.tell()
        except BROKEN:
            where = f"in a record at byte {at}: {size - at} of its bytes are there"
            end = f"at byte {at}: no end of the recording, no index"
            self._fault("cut", f"cut off {where if at < size else end}")
            yield from self._chunk_at(file, at, torn=True)
            return
        file.seek(max(0, size - len(MAGIC)))
        if file.read() != MAGIC:
            self._fault("cut", f"cut off at byte {size}: its index is torn")

    def _chunk_at(self, file: BinaryIO, at: int, torn: bool = False) -> Iterator[Raw]:
        """Yield the messages of the chunk at byte ``at``; of a torn one those before the tear."""
        file.seek(at)
        try:
            is_chunk = file.read(CHUNK_HEAD_BYTES)[:1] == b"\x06"
            chunk = records.Chunk.read(ReadDataStream(file)) if is_chunk else None
        except BROKEN:
            chunk = None
        if chunk is not None:
            yield from self._messages(chunk, at, torn)
        elif not torn:
            self._fault("garbled", f"no chunk at byte {at}: its messages are lost")

    def _messages(self, chunk: records.Chunk, at: int, torn: bool = False) -> list[Raw]:
        content, problem = _content(chunk)
        if problem and not torn:
            what = f"chunk at byte {at} is corrupt: {problem}"
            self._fault("chunk", what, chunk.message_start_time)
        found: list[Raw] = []
        try:
            for record in StreamReader(BytesIO(content), skip_magic=True).records:
                found += self._take(record)
        except EndOfFile:
            pass
        except BROKEN as error:
            if not problem:
                self._fault("record", f"a record in the chunk at byte {at} is garbled: {error!r}")
        return sorted(found, key=lambda raw: raw.received_ns)

    def _take(self, record: records.McapRecord) -> list[Raw]:
        """Learn schemas and channels; return the message, if the record is one."""
        if isinstance(record, records.Message):
            return [Raw(self.channels[record.channel_id], record.log_time, record.data)]
        if isinstance(record, records.Schema):
            self._schemas[record.id] = record
        elif isinstance(record, records.Channel) and record.id not in self.channels:
            schema = self._schemas.get(record.schema_id, NO_SCHEMA)
            self.channels[record.id] = Channel(
                record.topic,
                schema.name,
                record.message_encoding,
                schema.encoding,
                schema.data.decode(errors="replace"),
            )
        return []

    def _fault(self, kind: str, what: str, at_ns: int | None = None) -> None:
        self._faults.add(self.path.name, kind, what, at_ns)


NO_SCHEMA = records.Schema(data=b"", encoding="", id=0, name="")


def _summary(path: Path) -> Summary | None:
    """Return the index at the end of the file; None if it is missing or torn."""
    with path.open("rb") as file, suppress(*BROKEN, OSError):
        summary = make_reader(file).get_summary()
        if summary is not None and summary.channels:
            return summary
    return None


def _content(chunk: records.Chunk) -> tuple[bytes, str]:
    """Return what is in a chunk, up to a tear or a corrupt block, and what is wrong with it."""
    try:
        stream, length = get_chunk_data_stream(chunk, validate_crc=True)
        if length < chunk.uncompressed_size:
            raise EndOfFile(f"{length} of its {chunk.uncompressed_size} bytes are there")
        return stream.read(length), ""
    except BROKEN as error:
        problem = str(error)
    if chunk.compression not in ("zstd", "lz4"):
        return chunk.data, problem
    zstd = chunk.compression == "zstd"
    unpacker = (
        zstandard.ZstdDecompressor().decompressobj() if zstd else lz4.frame.LZ4FrameDecompressor()
    )
    content = bytearray()
    with suppress(*BROKEN, EOFError):
        for start in range(0, len(chunk.data), BLOCK_BYTES):
            content += unpacker.decompress(chunk.data[start : start + BLOCK_BYTES])
    return bytes(content), problem


class SqliteFile:
    """An sqlite3 file of a bag."""

    indexed = True

    def __init__(self, path: Path, faults: Faults) -> None:
        """Read the topics."""
        self.path, self._faults = path, faults
        self.channels: dict[int, Channel] = {}
        try:
            if path.stat().st_size:
                with closing(self._connect()) as database:
                    self.channels = _sqlite_channels(database)
        except sqlite3.DatabaseError as error:
            faults.add(path.name, "topics", f"its topics cannot be read: {error}")

    def read(self) -> Iterator[Raw]:
        """Yield messages in the order in which they were written; note what is torn."""
        if not self.path.stat().st_size:
            self._faults.add(self.path.name, "empty", "is empty: 0 bytes")
            return
        row = 0
        try:
            with closing(self._connect()) as database:
                # By row, not by time: the index of times may be what is damaged.
                cursor = database.execute(
                    "SELECT id, topic_id, timestamp, data FROM messages ORDER BY id"
                )
                while rows := cursor.fetchmany(SQLITE_ROWS):
                    row = rows[-1][0]
                    for _, topic, received_ns, data in rows:
                        if topic in self.channels:
                            yield Raw(self.channels[topic], received_ns, data)
        except sqlite3.DatabaseError as error:
            self._faults.add(self.path.name, "cut", f"cannot be read after row {row}: {error}")

    def _connect(self) -> sqlite3.Connection:
        """Open it read-only; what a killed recorder left in the write-ahead log counts too."""
        log = self.path.with_name(f"{self.path.name}-wal")
        how = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
        database = sqlite3.connect(f"{self.path.absolute().as_uri()}?{how}", uri=True)
        # sqlite3 then reads of a file cut short what there is, rather than nothing.
        database.execute("PRAGMA writable_schema=ON")
        return database


def _sqlite_channels(database: sqlite3.Connection) -> dict[int, Channel]:
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
