"""Presets of protocols in YAML: names and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import yaml

from dfm_vla_ros.benchmarks.errors import BenchmarkError
from dfm_vla_ros.resources import resource_path

Protocol = TypeVar("Protocol", bound=Any)


def read_presets(name: str, error: type[BenchmarkError]) -> dict[str, dict[str, Any]]:
    """Return name -> settings of a file of the package; raises ``error`` if it is damaged."""
    path = resource_path(name)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise error(f"{path} is damaged: it maps no names to settings; restore it")
    return content


def changed_preset(
    found: Mapping[str, Protocol],
    name: str,
    changes: Mapping[str, Any],
    error: type[BenchmarkError],
) -> Protocol:
    """Return a preset of ``found`` with ``changes``; those that are None change nothing.

    A changed preset says so in its name, so that its results are not taken for the preset's.
    Raises ``error`` if there is no such preset.
    """
    if name not in found:
        raise error(f"there is no preset {name!r}; there are {', '.join(found)}")
    preset = found[name]
    given = {key: value for key, value in changes.items() if value is not None}
    changed = {key: value for key, value in given.items() if value != getattr(preset, key)}
    if not changed:
        return preset
    words = ", ".join(f"{key} {value}" for key, value in changed.items())
    return replace(preset, name=f"{name} ({words})", **changed)
