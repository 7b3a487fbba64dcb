"""Presets from ``config/benchmarks/calvin/presets.yaml``."""

from __future__ import annotations

from typing import Any

from dfm_vla_ros.benchmarks.calvin.errors import CalvinError
from dfm_vla_ros.benchmarks.calvin.protocol import Protocol
from dfm_vla_ros.benchmarks.presets import changed_preset, read_presets

PROTOCOLS = "config/benchmarks/calvin/presets.yaml"


def protocols() -> dict[str, Protocol]:
    """Return name -> protocol of all presets.

    Raises:
        CalvinError: the file is damaged.
    """
    content = read_presets(PROTOCOLS, CalvinError)
    return {name: Protocol.read(settings, name) for name, settings in content.items()}


def find_protocol(name: str, **changes: Any) -> Protocol:
    """Return a preset with ``changes``; those that are None change nothing.

    A changed preset says so in its name, so that its results are not taken for the preset's.

    Raises:
        CalvinError: there is no such preset, or a change is out of bounds.
    """
    return changed_preset(protocols(), name, changes, CalvinError)
