"""Report content as JSON beside one binary block, so that a page of a minute stays small."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.report.content import ReportError
from dfm_vla_ros.report.pictures import Film, Picture

LEVELS = 65534
"""Steps of a quantised array between its smallest and largest value; one more stands for NaN."""
NOT_A_NUMBER = 65535
COARSEST = 1e-3
"""Arrays that need larger steps (times of long recordings) are kept as float32."""
_FILES = (Film, Picture)


class Packer:
    """Turns content into JSON values; arrays and files go to two blocks, equal ones once.

    An array becomes ``{"array": offset, "type", "shape"}`` and, if of floats, ``low`` and
    ``step``: value = low + step * level, with at most 65534 steps of at most 0.001; what needs
    more stays float32. A picture or film becomes its fields, ``data`` as ``{"file": offset,
    "size": bytes}``.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._arrays, self._files = _Block(), _Block()

    def pack(self, value: Any) -> Any:
        """Return ``value`` (dataclasses, mappings, tuples, arrays, numbers, text) as JSON has it.

        Raises:
            ReportError: ``value`` is of another kind.
        """
        if isinstance(value, np.ndarray):
            return self._array(value)
        if is_dataclass(value) and not isinstance(value, type):
            return {part.name: self._field(value, part.name) for part in fields(value)}
        if isinstance(value, Mapping):
            return {str(key): self.pack(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.pack(part) for part in value]
        return _scalar(value)

    def arrays(self) -> str:
        """Return the arrays' block, deflated, as base64."""
        return _base64(zlib.compress(self._arrays.content(), 9))

    def files(self) -> str:
        """Return the files' block as base64."""
        return _base64(self._files.content())

    def _field(self, value: Any, name: str) -> Any:
        part = getattr(value, name)
        if isinstance(value, _FILES) and name == "data":
            return {"file": self._files.add(part), "size": len(part)}
        return self.pack(part)

    def _array(self, array: NDArray[Any]) -> dict[str, Any]:
        packed: dict[str, Any] = {"shape": list(array.shape)}
        if array.dtype.kind == "f":
            levels, low, step = quantised(array)
            if step <= COARSEST:
                packed |= {"low": low, "step": step}
            else:
                levels = np.where(np.isfinite(array), array, np.nan).astype(np.float32)
        else:
            levels = _smallest(array)
        little = np.ascontiguousarray(levels, dtype=levels.dtype.newbyteorder("<"))
        packed["type"] = levels.dtype.name
        packed["array"] = self._arrays.add(little.tobytes(), levels.dtype.itemsize)
        return packed


def quantised(array: NDArray[np.floating]) -> tuple[NDArray[np.uint16], float, float]:
    """Return levels, low and step with ``array = low + step * level``; infinities become NaN."""
    known = np.isfinite(array)
    low = float(array[known].min()) if known.any() else 0.0
    span = float(array[known].max()) - low if known.any() else 0.0
    step = span / LEVELS or COARSEST
    levels = np.full(array.shape, NOT_A_NUMBER, dtype=np.uint16)
    levels[known] = np.round((array[known] - low) / step).astype(np.uint16)
    return levels, low, step


def _smallest(array: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers in the smallest type that holds them."""
    if array.dtype.kind not in "biu":
        raise ReportError(f"an array of {array.dtype} cannot be packed; give numbers")
    if array.dtype.kind == "b" or not array.size:
        return array.astype(np.uint8)
    low, high = int(array.min()), int(array.max())
    kinds = (np.uint8, np.int8, np.uint16, np.int16, np.int32)
    for kind in kinds:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    raise ReportError(f"whole numbers from {low} to {high} cannot be packed; give 32-bit ones")


def _scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    raise ReportError(f"a {type(value).__name__} cannot be shown; give numbers, text or arrays")


class _Block:
    """Pieces one after another, each starting at a multiple of its alignment."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._known: dict[tuple[bytes, int], int] = {}

    def add(self, piece: bytes, alignment: int = 1) -> int:
        """Return the offset of a piece."""
        key = (hashlib.sha256(piece).digest(), alignment)
        if key not in self._known:
            self._content.extend(bytes(-len(self._content) % alignment))
            self._known[key] = len(self._content)
            self._content.extend(piece)
        return self._known[key]

    def content(self) -> bytes:
        return bytes(self._content)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def script_json(value: Any) -> str:
    """Return JSON that may stand in a ``<script>``: no ``<``, no line separators."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
