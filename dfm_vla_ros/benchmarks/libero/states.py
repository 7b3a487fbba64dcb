"""Stored initial states: an array in a pickle in a zip, read without running what it says."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks.libero.errors import LiberoError

CORE = {"numpy.core.multiarray", "numpy._core.multiarray"}
"""The two names that numpy has given to one module."""


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if module in CORE and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _latin
        raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")


def _latin(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r} is no part of an array")
    return text.encode("latin1")


def read_states(path: Path) -> NDArray[np.float64]:
    """Return the stored states (S, N) of a task: time, positions, velocities.

    Raises:
        LiberoError: the file is missing, damaged or holds anything but an array.
    """
    try:
        states = _load(path)
    except OSError as error:
        raise LiberoError(f"{path} cannot be read ({error.strerror}); reinstall it") from error
    except (zipfile.BadZipFile, pickle.UnpicklingError, KeyError, ValueError, EOFError) as error:
        raise LiberoError(f"{path} holds no stored states ({error}); reinstall it") from error
    if not isinstance(states, np.ndarray) or states.ndim != 2 or states.dtype != np.float64:
        raise LiberoError(f"{path} holds no float64 array of two dimensions; reinstall it")
    if not np.isfinite(states).all():
        raise LiberoError(f"{path} holds a number that is not finite; reinstall it")
    return states


def _load(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
        return _ArrayUnpickler(io.BytesIO(archive.read(name))).load()
