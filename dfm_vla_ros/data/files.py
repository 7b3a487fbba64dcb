"""Files that are whole or absent, whatever ends the process or the machine."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARTIAL = ".partial"


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a new file beside ``path``, then put it in its place, durably.

    A reader sees the old file or the new one. What a killed process leaves has a name that
    starts with a dot and ends in ``.partial``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{PARTIAL}")
    try:
        write(partial)
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Replace a text file whole."""
    replace_file(path, lambda partial: _write_text(partial, text))


def replace_json(path: Path, content: Any) -> None:
    """Replace a JSON file whole."""
    replace_text(path, json.dumps(content, indent=1) + "\n")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


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
