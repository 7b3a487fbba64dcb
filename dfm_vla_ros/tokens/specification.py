"""Tokenizers as JSON: written and read whole, identified by the hash of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object at ``path``.

    Raises:
        TokenizerError: the file is missing or is not a JSON object.
    """
    if not path.is_file():
        raise TokenizerError(f"no tokenizer at {path}: give a checkpoint folder that has it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} is not JSON ({error}): copy the checkpoint again") from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{path} holds no JSON object: copy the checkpoint again")
    return content


def read_specification(path: Path, kind: str) -> dict[str, Any]:
    """Return the JSON object at ``path``.

    Raises:
        TokenizerError: the file is missing, is not JSON, or is of another kind than ``kind``.
    """
    content = read_json(path)
    if content.get("kind") != kind:
        raise TokenizerError(
            f"{path} holds a tokenizer of kind {content.get('kind')!r}, expected {kind!r}"
        )
    return content


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error about a tokenizer file's content begin with its ``path``."""
    try:
        yield
    except (TokenizerError, KeyError, TypeError, ValueError, OverflowError) as error:
        text = str(error) if isinstance(error, TokenizerError) else repr(error)
        raise TokenizerError(f"{path}: {text}") from error


class Fields:
    """The values of a JSON object, each refused unless it is of the type that is asked for.

    Numbers in quotes, true for 1 and rows of unequal length are errors, not conversions.
    """

    def __init__(self, content: Mapping[str, Any], keys: set[str]) -> None:
        """Take ``content``, which must have exactly ``keys``.

        Raises:
            TokenizerError: a key is missing, or one is not known.
        """
        missing, unknown = sorted(keys - set(content)), sorted(set(content) - keys)
        if missing:
            raise TokenizerError(f"{missing[0]!r} is missing: copy the checkpoint again")
        if unknown:
            raise TokenizerError(f"{unknown[0]!r} is not known: written by another version?")
        self._content = content

    def _typed(self, key: str, kinds: tuple[type, ...], expected: str) -> Any:
        value = self._content[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise TokenizerError(f"{key!r} is {_short(value)}, expected {expected}")
        return value

    def text(self, key: str) -> str:
        """Return a string."""
        return self._typed(key, (str,), "text")

    def integer(self, key: str) -> int:
        """Return an integer."""
        return self._typed(key, (int,), "an integer")

    def number(self, key: str) -> float:
        """Return a number."""
        return float(self._typed(key, (int, float), "a number"))

    def table(self, key: str) -> dict[str, Any]:
        """Return an object."""
        return self._typed(key, (dict,), "an object")

    def items(self, key: str, kind: type, expected: str) -> tuple[Any, ...]:
        """Return a list of which every item is a ``kind``."""
        values = self._typed(key, (list,), f"a list of {expected}")
        if not all(type(value) is kind for value in values):
            raise TokenizerError(f"{key!r} is {_short(values)}, expected a list of {expected}")
        return tuple(values)

    def names(self, key: str) -> tuple[str, ...]:
        """Return a list of strings."""
        return self.items(key, str, "texts")

    def array(self, key: str, dimensions: int, nulls: bool = False) -> NDArray[np.float64]:
        """Return nested lists of numbers as an array; with ``nulls``, null is NaN."""
        value = self._typed(key, (list,), "lists of numbers")
        if nulls:
            value = [np.nan if item is None else item for item in value]
        try:
            array = np.array(value)
        except ValueError:
            array = np.array(None)
        if array.ndim != dimensions or array.dtype.kind not in "if":
            raise TokenizerError(
                f"{key!r} is {_short(value)}, expected numbers in {dimensions} dimensions"
            )
        return array.astype(np.float64)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def next_targets(targets: NDArray[np.float64], horizon: int) -> NDArray[np.float64]:
    """Return (T, H, D): ``targets[t + k]``, k = 1..H; past the end the last one repeats."""
    steps = np.arange(len(targets))[:, None] + np.arange(1, horizon + 1)
    return targets[np.minimum(steps, len(targets) - 1)]
