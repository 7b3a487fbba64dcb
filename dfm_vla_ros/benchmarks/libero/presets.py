"""Presets from ``config/benchmarks/libero/presets.yaml``."""

from __future__ import annotations

from typing import Any

from dfm_vla_ros.benchmarks.libero.errors import LiberoError
from dfm_vla_ros.benchmarks.libero.protocol import Protocol
from dfm_vla_ros.benchmarks.libero.variation import CameraShift, Variation
from dfm_vla_ros.benchmarks.presets import changed_preset, read_presets

PROTOCOLS = "config/benchmarks/libero/presets.yaml"
VARIATIONS = "config/benchmarks/libero/variations.yaml"


def protocols() -> dict[str, Protocol]:
    """Return name -> protocol of all presets.

    Raises:
        LiberoError: the file is damaged.
    """
    return {
        name: Protocol.read(content, name)
        for name, content in read_presets(PROTOCOLS, LiberoError).items()
    }


def find_protocol(name: str, **changes: Any) -> Protocol:
    """Return a preset with ``changes``; those that are None change nothing.

    A changed preset says so in its name, so that its results are not taken for the preset's.

    Raises:
        LiberoError: there is no such preset, or a change is out of bounds.
    """
    return changed_preset(protocols(), name, changes, LiberoError)


def variations() -> dict[str, Variation]:
    """Return name -> variation of all presets.

    Raises:
        LiberoError: the file is damaged.
    """
    return {
        name: Variation.read(content, name)
        for name, content in read_presets(VARIATIONS, LiberoError).items()
    }


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
