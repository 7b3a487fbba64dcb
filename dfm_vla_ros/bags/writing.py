"""Writes bags: rosbag2 folders (MCAP), readable up to the last second if the writer is killed."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from pathlib import Path

from backports import zstd
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from dfm_vla_ros.bags.storage import LATCHED, TOPICS, typestore
from dfm_vla_ros.errors import DfmVlaError

FLUSH_S = 1.0
"""How much a killed recorder loses, at most, beside what the system had no time to write [s]."""


class NoBag(DfmVlaError):
    """The folder holds something else than a bag, which must not be lost."""


class UnknownType(DfmVlaError):
    """A message type without a definition."""


def remove_bag(folder: Path) -> None:
    """Delete an earlier bag, if there is one.

    Raises:
        NoBag: ``folder`` holds anything but a bag's files; nothing is deleted.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise NoBag(f"{folder} is no bag and would be overwritten: choose another --out")
    files = sorted(folder.iterdir())
    for file in files:
        if not file.is_file() or (file.name != "metadata.yaml" and file.suffix != ".mcap"):
            raise NoBag(f"{file} is no file of a bag and would be lost: choose another --out")
    for file in files:
        file.unlink()
    folder.rmdir()


class BagWriter:
    """Writes serialized messages as they came over the wire.

    Every second what was written goes to the disk as a chunk of its own, so that of a recording
    whose writer is killed all but the last second can be read (``bags.reading``).
    """

    def __init__(
        self,
        folder: Path,
        topics: Mapping[str, str] = TOPICS,
        latched: Collection[str] = LATCHED,
    ) -> None:
        """Create ``folder``, which must not exist, for ``topics``: name -> type.

        A relative name is taken to be in the root namespace; of the ``latched`` topics a late
        subscriber gets the newest message.

        Raises:
            UnknownType: a type is neither Jazzy's nor this package's.
        """
        self._store = typestore()
        for topic, kind in topics.items():
            self._check(topic, kind)
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._writer.storage.compressor = _compress
        self._pending = False
        self._connections: dict[str, Connection] = {}
        self.counts: dict[str, int] = {}
        """Messages written of each topic."""
        for topic, kind in topics.items():
            self.add(topic, kind, latched=topic in latched)
        self.flush()  # what the topics are is known from the start

    def _check(self, topic: str, kind: str) -> None:
        if kind not in self._store.fielddefs:
            raise UnknownType(f"{topic} is of type {kind}, which is not known: leave it out")

    def add(self, topic: str, kind: str, latched: bool = False) -> None:
        """Add a topic to those named at the start.

        Raises:
            UnknownType: its type is neither Jazzy's nor this package's.
        """
        self._check(topic, kind)
        self._connections[topic] = self._writer.add_connection(
            topic if topic.startswith("/") else f"/{topic}",
            kind,
            typestore=self._store,
            offered_qos_profiles=[_offered(latched)],
        )
        self.counts[topic] = 0
        self._pending = True

    def write(self, topic: str, serialized: bytes, received_ns: int) -> None:
        """Add one message of a topic that was added."""
        self._writer.write(self._connections[topic], received_ns, serialized)
        self.counts[topic] += 1
        self._pending = True
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Flush if the last time is a second ago; call it now and then in silence too."""
        if time.monotonic() - self._flushed_s >= FLUSH_S:
            self.flush()

    @property
    def size_bytes(self) -> int:
        """Bytes on the disk so far."""
        return self._writer.storage.bio.tell()

    def flush(self) -> None:
        """Hand all that was written to the system."""
        self._flushed_s = time.monotonic()
        storage = self._writer.storage
        if self._pending and storage.chunk.bio.tell():
            if not storage.chunk.msgs:
                storage.chunk.message_start_time = 0
            storage.close_chunk()
        storage.bio.flush()
        self._pending = False

    def close(self) -> None:
        """Finish the folder: write index and metadata."""
        self._writer.close()


def _compress(data: bytes) -> bytes:
    """Compress with a checksum, so that a corrupt chunk is known for one."""
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


def _offered(latched: bool) -> Qos:
    """Return what a player should offer, so that a latched topic is latched again."""
    never = QosTime(9223372036, 854775807)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1 if latched else 10,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=never,
        lifespan=never,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=never,
        avoid_ros_namespace_conventions=False,
    )
