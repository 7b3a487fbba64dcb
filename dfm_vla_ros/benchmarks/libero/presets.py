"""Presets from ``config/benchmarks/libero/presets.yaml``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from dfm_vla_ros.benchmarks.libero.errors import LiberoError
from dfm_vla_ros.benchmarks.libero.protocol import Protocol
from dfm_vla_ros.benchmarks.libero.variation import CameraShift, Variation
from dfm_vla_ros.resources import resource_path

PROTOCOLS = "config/benchmarks/libero/presets.yaml"
VARIATIONS = "config/benchmarks/libero/variations.yaml"


def protocols() -> dict[str, Protocol]:
    """Return name -> protocol of all presets.

    Raises:
        LiberoError: the file is damaged.
    """
    return {name: Protocol.read(content, name) for name, content in _read(PROTOCOLS).items()}


def find_protocol(name: str, **changes: Any) -> Protocol:
    """Return a preset with ``changes``; those that are None change nothing.

    A changed preset says so in its name, so that its results are not taken for the preset's.

    Raises:
        LiberoError: there is no such preset, or a change is out of bounds.
    """
    found = protocols()
    if name not in found:
        raise LiberoError(f"there is no preset {name!r}; there are {', '.join(found)}")
    preset = found[name]
    given = {key: value for key, value in changes.items() if value is not None}
    changed = {key: value for key, value in given.items() if value != getattr(preset, key)}
    if not changed:
        return preset
    words = ", ".join(f"{key} {value}" for key, value in changed.items())
    return replace(preset, name=f"{name} ({words})", **changed)


def variations() -> dict[str, Variation]:
    """Return name -> variation of all presets.

    Raises:
        LiberoError: the file is damaged.
    """
    return {name: Variation.read(content, name) for name, content in _read(VARIATIONS).items()}


def find_variation(name: str) -> Variation:
    """Return a preset; "" is the stored scene, a LIBERO-Plus task's name its camera.

    Raises:
        LiberoError: there is no such preset.
    """
    if not name:
        return Variation()
    if "_view_" in name:
        return Variation(name, CameraShift.of_name(name))
    found = variations()
    if name not in found:
        raise LiberoError(
            f"there is no variation {name!r}; there are {', '.join(found)}, and the names of "
            "LIBERO-Plus's tasks such as _view_15_0_120_0_0_initstate_0"
        )
    return found[name]


def _read(name: str) -> dict[str, dict[str, Any]]:
    path: Path = resource_path(name)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise LiberoError(f"{path} is damaged: it maps no names to settings; restore it")
    return content
