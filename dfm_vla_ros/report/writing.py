"""A report as one HTML file that asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.report.content import ReplayRun, Report, ReportError
from dfm_vla_ros.report.figures import compare, figures_of, following
from dfm_vla_ros.report.pictures import Film, Picture
from dfm_vla_ros.report.remarks import remarks

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


SCRIPTS = (
    "dom.js",
    "data.js",
    "scale.js",
    "tooltip.js",
    "lines.js",
    "bars.js",
    "matrix.js",
    "cursor.js",
    "joints.js",
    "refinement.js",
    "cameras.js",
    "replay.js",
    "evaluation.js",
    "main.js",
)
"""Of the page, in the order in which they stand in it."""


def write_report(report: Report, path: Path | str) -> int:
    """Write a page and return its size [bytes].

    Raises:
        ReportError: the folder cannot be written to, or the content cannot be packed.
    """
    path = Path(path)
    content = page(report).encode("utf-8")
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error.strerror}; choose another") from error
    return len(content)


def page(report: Report) -> str:
    """Return a report as HTML."""
    packer = Packer()
    data = {
        "title": report.title,
        "facts": packer.pack(report.facts),
        "replays": [_replay(packer, run) for run in report.replays],
        "evaluations": packer.pack(report.evaluations),
    }
    parts = {
        "title": html.escape(report.title),
        "style": _source("style.css"),
        "script": "\n".join(_source(name) for name in SCRIPTS),
        "data": script_json(data),
        "arrays": packer.arrays(),
        "files": packer.files(),
    }
    pieces = _source("page.html").split("@@")
    # Every other piece of the template is the name of a part.
    return "".join(parts[piece] if odd % 2 else piece for odd, piece in enumerate(pieces))


def _replay(packer: Packer, run: ReplayRun) -> dict[str, Any]:
    figures, comparison = figures_of(run), compare(run.samples, run.references)
    packed = packer.pack(run)
    packed["samples"] = {
        camera: packer.pack(Picture.of(image)) for camera, image in run.samples.items()
    }
    for target, reference in zip(packed["references"], run.references, strict=True):
        target["image"] = packer.pack(Picture.of(reference.image))
    packed["figures"] = packer.pack(figures)
    packed["comparison"] = packer.pack(comparison)
    moving = following(run)
    packed["following"] = packer.pack(moving)
    packed["remarks"] = list(remarks(run, figures, comparison, moving))
    return packed


def _source(name: str) -> str:
    return (files("dfm_vla_ros.report") / "page" / name).read_text(encoding="utf-8")
