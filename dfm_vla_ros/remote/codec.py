"""Messages as bytes and back: msgpack, with arrays as ``{dtype, shape, bytes}``. No pickle."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.remote.checks import refused, shown
from dfm_vla_ros.remote.errors import ProtocolError
from dfm_vla_ros.remote.messages import (
    About,
    ActReply,
    ActRequest,
    Alive,
    Failure,
    Health,
    Hello,
    Message,
)

KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Hello, About, ActRequest, ActReply, Health, Alive, Failure)
}
DTYPES = {"uint8": "|u1", "float32": "<f4", "float64": "<f8", "int64": "<i8"}
ARRAY = {"dtype", "shape", "bytes"}
MOST_DIMENSIONS = 4
DEEPEST = 4
"""Mappings and lists in one another."""


def encode(message: Message) -> bytes:
    """Return a message as bytes.

    Raises:
        ProtocolError: an array's dtype is not of the list.
    """
    content = {part.name: getattr(message, part.name) for part in fields(message)}
    packed: bytes = msgpack.packb(
        {"kind": type(message).__name__, "fields": content}, default=_pack
    )
    return packed


def decode(data: bytes | bytearray | memoryview) -> Message:
    """Return the message in ``data``, all of it checked.

    Raises:
        ProtocolError: it is no such message; names the field, the value and what is expected.
    """
    try:
        content = msgpack.unpackb(data, raw=False, strict_map_key=True, ext_hook=_no_extension)
    except (ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"{len(data)} bytes are no msgpack: {error}") from error
    if not isinstance(content, dict) or set(content) != {"kind", "fields"}:
        raise refused("the message", content, "a mapping of kind and fields")
    kind, given = content["kind"], content["fields"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise refused("the message's kind", kind, f"one of {', '.join(KINDS)}")
    return _message(KINDS[kind], given)


def _message(kind: type[Message], given: object) -> Message:
    if not isinstance(given, dict):
        raise refused(f"{kind.__name__}.fields", given, "a mapping")
    wanted = {part.name for part in fields(kind)}
    if set(given) != wanted:
        odd = sorted(map(str, set(given) ^ wanted))
        raise ProtocolError(f"{kind.__name__}.{odd[0]} is missing or none of {sorted(wanted)}")
    return kind(**{k: _restored(v, f"{kind.__name__}.{k}") for k, v in given.items()})


def _pack(value: object) -> dict[str, Any]:
    """Return an array as msgpack can hold it."""
    if not isinstance(value, np.ndarray) or value.dtype.name not in DTYPES:
        raise refused("a value to send", value, f"an array of {', '.join(DTYPES)}")
    data = value.astype(DTYPES[value.dtype.name], copy=False).tobytes()
    return {"dtype": value.dtype.name, "shape": list(value.shape), "bytes": data}


def _restored(value: Any, where: str, depth: int = 1) -> Any:
    """Return a value with its arrays."""
    if depth > DEEPEST:
        raise ProtocolError(f"{where} lies deeper than {DEEPEST} mappings and lists")
    if isinstance(value, dict):
        if set(value) == ARRAY:
            return _array(value, where)
        return {key: _restored(v, f"{where}[{key!r}]", depth + 1) for key, v in value.items()}
    if isinstance(value, list):
        return [_restored(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
    return value


def _array(value: dict[str, Any], where: str) -> NDArray[Any]:
    dtype, shape, data = value["dtype"], value["shape"], value["bytes"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise refused(f"{where}.dtype", dtype, f"one of {', '.join(DTYPES)}")
    sound = isinstance(shape, list) and len(shape) <= MOST_DIMENSIONS
    if not sound or not all(type(side) is int and 0 <= side <= 2**31 for side in shape):
        raise refused(f"{where}.shape", shape, f"at most {MOST_DIMENSIONS} sides of at least 0")
    expected = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if not isinstance(data, bytes) or len(data) != expected:
        found = f"{len(data)} bytes" if isinstance(data, bytes) else shown(data)
        raise ProtocolError(f"{where}.bytes is {found}, expected {expected} bytes of {dtype}")
    # A copy: what lies in the message cannot be written to.
    return np.frombuffer(data, DTYPES[dtype]).astype(dtype).reshape(shape)


def _no_extension(code: int, data: bytes) -> None:
    raise ValueError(f"extension type {code} of {len(data)} bytes is not used here")
