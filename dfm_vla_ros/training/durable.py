"""Files and folders that are there whole or not at all, whatever kills the process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Put ``text`` in the place of ``path``."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Yield a path to write a folder at, which takes the place of ``folder`` when all went well.

    The previous one is kept until then; `recover` brings it back if the process died in between.
    """
    recover(folder)
    partial = _beside(folder, "partial")
    yield partial
    for path in [*partial.rglob("*"), partial]:
        sync(path)
    previous = _beside(folder, "previous")
    if folder.exists():
        folder.rename(previous)
    partial.rename(folder)
    sync(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def recover(folder: Path) -> None:
    """Leave ``folder`` as it was last whole, and nothing else of it."""
    previous = _beside(folder, "previous")
    if previous.exists() and not folder.exists():
        previous.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)
    shutil.rmtree(_beside(folder, "partial"), ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until ``path`` is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f"{folder.name}.{what}")
