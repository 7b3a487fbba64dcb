"""sqlite3 files of a bag, whole or damaged: rows are read until one cannot be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from dfm_vla_ros.bags.faults import Faults
from dfm_vla_ros.bags.storage import Channel, Raw

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
