"""Tokenizers as JSON: written and read whole, identified by the hash of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfm_vla_ros.errors import DfmVlaError


class TokenizerError(DfmVlaError):
    """A tokenizer file or a value that a tokenizer was given is wrong."""


def content_hash(content: Mapping[str, Any]) -> str:
    """Return the sha256, hex, of the canonical JSON of ``content``."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_specification(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` to ``path`` as JSON that people can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_specification(path: Path, kind: str) -> dict[str, Any]:
    """Return the JSON object at ``path``.

    Raises:
        TokenizerError: the file is missing, is not JSON, or is of another kind than ``kind``.
    """
    if not path.is_file():
        raise TokenizerError(f"no tokenizer at {path}: give a checkpoint folder that has it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{path} is not JSON ({error}): copy the checkpoint again") from error
    found = content.get("kind") if isinstance(content, dict) else None
    if found != kind:
        raise TokenizerError(f"{path} holds a tokenizer of kind {found!r}, expected {kind!r}")
    return content
