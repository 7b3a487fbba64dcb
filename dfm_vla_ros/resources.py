"""Where the shipped files (URDF, checkpoint, parameters) lie in every kind of installation."""

from __future__ import annotations

import os
from pathlib import Path

from dfm_vla_ros.errors import DfmVlaError

PACKAGE = Path(__file__).parent


def resource_path(relative: str) -> Path:
    """Return the path of a shipped file or folder.

    Args:
        relative: Path inside the repository, such as ``urdf/dual_arm.urdf.xacro``.

    Raises:
        DfmVlaError: No root holds it; the message lists what was searched.
    """
    candidates = [root / relative for root in resource_roots()]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    searched = ", ".join(str(candidate) for candidate in candidates)
    raise DfmVlaError(
        f"{relative!r} is not shipped with this installation; searched {searched}. "
        "Reinstall the package, or source the workspace that it was built in."
    )


def resource_roots() -> list[Path]:
    """Return the folders that may hold shipped files: checkout, wheel, ament share."""
    checkout = PACKAGE.parent
    # Without package.xml the folder beside the package is site-packages, where anything may lie.
    source = [checkout] if (checkout / "package.xml").is_file() else []
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    shares = [Path(prefix) / "share" / "dfm_vla_ros" for prefix in prefixes if prefix]
    return [*source, PACKAGE / "share", *shares]
