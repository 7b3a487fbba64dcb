"""Presets from ``config/benchmarks/calvin/presets.yaml``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml

from dfm_vla_ros.benchmarks.calvin.errors import CalvinError
from dfm_vla_ros.benchmarks.calvin.protocol import Protocol
from dfm_vla_ros.resources import resource_path

PROTOCOLS = "config/benchmarks/calvin/presets.yaml"


def protocols() -> dict[str, Protocol]:
    """Return name -> protocol of all presets.

    Raises:
        CalvinError: the file is damaged.
    """
    path = resource_path(PROTOCOLS)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise CalvinError(f"{path} is damaged: it maps no names to settings; restore it")
    return {name: Protocol.read(settings, name) for name, settings in content.items()}


def find_protocol(name: str, **changes: Any) -> Protocol:
    """Return a preset with ``changes``; those that are None change nothing.

    A changed preset says so in its name, so that its results are not taken for the preset's.

    Raises:
        CalvinError: there is no such preset, or a change is out of bounds.
    """
    found = protocols()
    if name not in found:
        raise CalvinError(f"there is no preset {name!r}; there are {', '.join(found)}")
    preset = found[name]
    given = {key: value for key, value in changes.items() if value is not None}
    changed = {key: value for key, value in given.items() if value != getattr(preset, key)}
    if not changed:
        return preset
    words = ", ".join(f"{key} {value}" for key, value in changed.items())
    return replace(preset, name=f"{name} ({words})", **changed)
