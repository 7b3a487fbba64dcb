"""CALVIN as a program of its own environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dfm_vla_ros.benchmarks.calvin.jobs import Answer
from dfm_vla_ros.benchmarks.simulators import Program

MODULE = "dfm_vla_ros.benchmarks.calvin.worker"
HINT = "; where there is no EGL, give --renderer tiny"


@dataclass(frozen=True)
class Installation:
    """Where the simulator is.

    Attributes:
        python: interpreter that has PyBullet and what calvin_env imports.
        folder: checkout of calvin_env.
    """

    python: Path
    folder: Path


def program(installation: Installation) -> Program:
    """Return what runs with the interpreter of ``installation``."""
    return Program(installation.python, MODULE, (str(installation.folder),), Answer, hint=HINT)
