"""LIBERO as a program of its own environment."""

from __future__ import annotations

from dfm_vla_ros.benchmarks.libero.installation import Installation
from dfm_vla_ros.benchmarks.libero.jobs import Answer
from dfm_vla_ros.benchmarks.simulators import Program

MODULE = "dfm_vla_ros.benchmarks.libero.worker"


def program(installation: Installation) -> Program:
    """Return what runs in the environment of ``installation``."""
    paths = (str(installation.package), str(installation.assets))
    return Program(installation.python, MODULE, paths, Answer, {"success": None})
