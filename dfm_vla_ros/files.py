"""Files that are whole or not there at all, and books of results that survive a kill."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dfm_vla_ros.errors import DfmVlaError

PARTIAL = ".partial"


class BookError(DfmVlaError):
    """A book that is damaged, or holds results of something else."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; the file takes the place of ``path`` when the block ends well.

    Threads and processes may write to one path at a time: the last one to end counts. The
    temporary file lies in the same folder and is on the disk before it is renamed, so that
    a kill or a power cut leaves the old file or the new one. If the block fails it is removed.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{PARTIAL}")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content``, making folders that are missing; a device or pipe is written directly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8, see :func:`write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, see :func:`write_bytes`."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partials(folder: Path) -> None:
    """Delete what killed writers left in ``folder`` and below."""
    for path in folder.rglob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


class Book:
    """Results in a file of JSON lines that a killed run can go on with.

    The first line says what all results have in common, each other one is a result.

    Attributes:
        path: of the file.
        common: what must be equal to go on, such as checkpoint, seed and versions.
        rows: the results so far, oldest first.
    """

    def __init__(self, path: Path, common: Mapping[str, Any]) -> None:
        """Open the book, or begin it; a last line that was cut short by a kill is dropped.

        Raises:
            BookError: its results are of something else than ``common``, or damaged.
        """
        self.path = path
        self.common: dict[str, Any] = json.loads(json.dumps(dict(common)))
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        kept = text.split("\n")[:-1] or [json.dumps(self.common)]
        found, *self.rows = [self._read(line, number) for number, line in enumerate(kept, 1)]
        self._check(found)
        if (whole := "\n".join(kept) + "\n") != text:
            write_text(path, whole)

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a result."""
        line = json.dumps(dict(row))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.rows.append(json.loads(line))

    def _read(self, line: str, number: int) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BookError(
                f"{self.path}, line {number}: {error}; remove the line, or choose another folder"
            ) from error
        if not isinstance(row, dict):
            raise BookError(f"{self.path}, line {number} is {line!r}, no object: remove the line")
        return row

    def _check(self, found: Mapping[str, Any]) -> None:
        for key in sorted({*found, *self.common}):
            has, wanted = found.get(key), self.common.get(key)
            if has != wanted:
                raise BookError(
                    f"{self.path} holds results with {key} {has!r}, not {wanted!r}: choose "
                    "another folder, or run with the same settings"
                )
