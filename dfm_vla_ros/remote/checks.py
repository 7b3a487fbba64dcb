"""Checks of a message's fields: each returns the value to hold or raises ProtocolError.

A check gets the value and where it stands, such as ``ActRequest.images['third']``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.remote.errors import ProtocolError

Check = Callable[[Any, str], Any]
LONGEST_TEXT = 4096
MOST = 1024
"""Entries of a tuple or mapping."""


def shown(value: object) -> str:
    """Return a value as an error shows it."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def refused(where: str, value: object, expected: str) -> ProtocolError:
    """Return the error that names the field, its value and what is allowed."""
    return ProtocolError(f"{where} is {shown(value)}, expected {expected}")


def integer(low: int, high: int) -> Check:
    """Return the check of a whole number from ``low`` to ``high``."""

    def check(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise refused(where, value, f"a whole number from {low} to {high}")
        if not low <= value <= high:
            raise refused(where, value, f"{low} to {high}")
        return int(value)

    return check


def seconds(value: Any, where: str) -> float:
    """Check a finite duration of at least 0 s."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating):
        raise refused(where, value, "seconds")
    if not 0 <= value < np.inf:
        raise refused(where, value, "finite seconds of at least 0")
    return float(value)


def text(value: Any, where: str) -> str:
    """Check a string."""
    if not isinstance(value, str):
        raise refused(where, value, "a string")
    if len(value) > LONGEST_TEXT:
        raise refused(where, value, f"at most {LONGEST_TEXT} characters, not {len(value)}")
    return value


def tuple_of(entry: Check, length: int | None = None) -> Check:
    """Return the check of a tuple; lists, which msgpack has instead, become tuples."""

    def check(value: Any, where: str) -> tuple[Any, ...]:
        wanted = f"at most {MOST} entries" if length is None else f"{length} entries"
        if not isinstance(value, tuple | list):
            raise refused(where, value, f"a list of {wanted}")
        if len(value) > MOST or length not in (None, len(value)):
            raise refused(where, value, f"{wanted}, not {len(value)}")
        return tuple(entry(part, f"{where}[{index}]") for index, part in enumerate(value))

    return check


def mapping_of(entry: Check) -> Check:
    """Return the check of a mapping from strings."""

    def check(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise refused(where, value, f"a mapping of at most {MOST} entries")
        if len(value) > MOST:
            raise refused(where, value, f"at most {MOST} entries, not {len(value)}")
        return {
            text(key, f"a key of {where}"): entry(part, f"{where}[{key!r}]")
            for key, part in value.items()
        }

    return check


def image(value: Any, where: str) -> NDArray[np.uint8]:
    """Check an RGB image, uint8 (H, W, 3)."""
    sound = isinstance(value, np.ndarray) and value.dtype == np.uint8
    if not sound or value.ndim != 3 or value.shape[2] != 3 or not value.size:
        raise refused(where, value, "uint8 (H, W, 3)")
    return value


def floats(dimensions: int) -> Check:
    """Return the check of finite float64 numbers in that many dimensions."""
    expected = "float64 (" + ", ".join(("T", "D")[-dimensions:]) + ")"

    def check(value: Any, where: str) -> NDArray[np.float64]:
        sound = isinstance(value, np.ndarray) and value.dtype == np.float64
        if not sound or value.ndim != dimensions:
            raise refused(where, value, expected)
        if not np.isfinite(value).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            place = f"{where}[{', '.join(map(str, index))}]"
            raise refused(place, float(value[index]), "a finite number")
        return value

    return check
