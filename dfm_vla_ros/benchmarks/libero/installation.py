"""Where LIBERO is: an environment with ``hf-libero``, and the folder of its assets.

Nothing here imports the simulator, so what is installed can be listed without it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dfm_vla_ros.benchmarks.libero.errors import LiberoError
from dfm_vla_ros.resources import PACKAGE

PYTHON = "LIBERO_PYTHON"
"""Environment variable: the interpreter in which the simulator runs."""
ASSETS = "LIBERO_ASSETS"
"""Environment variable: the folder of meshes and textures."""
FOLDER = ".libero"
"""Where ``make libero-env`` puts the environment, in the checkout."""
REMEDY = f"run make libero-env, or set {PYTHON} to the interpreter of an environment that has it"


@dataclass(frozen=True)
class Installation:
    """One installed simulator.

    Attributes:
        python: interpreter of its environment.
        package: folder ``libero/libero`` within.
        assets: folder of meshes and textures; may be missing.
    """

    python: Path
    package: Path
    assets: Path

    @property
    def task_map(self) -> Path:
        """The file that gives the order of the tasks."""
        return self.package / "benchmark" / "libero_suite_task_map.py"

    @property
    def scenes(self) -> Path:
        """The folder of the bddl files."""
        return self.package / "bddl_files"

    @property
    def states(self) -> Path:
        """The folder of the stored initial states."""
        return self.package / "init_files"


def find_installation(environment: Mapping[str, str] | None = None) -> Installation:
    """Return the installed simulator.

    Args:
        environment: variables; default: of this process.

    Raises:
        LiberoError: there is none.
    """
    variables = os.environ if environment is None else environment
    # Not resolved: the interpreter of a virtual environment is a link out of it.
    python = Path(variables.get(PYTHON) or PACKAGE.parent / FOLDER / "bin" / "python")
    if not python.is_file():
        raise LiberoError(f"LIBERO is not installed: {python} is no interpreter; {REMEDY}")
    found = sorted(python.parent.parent.glob("lib/python3*/site-packages/libero/libero"))
    if not found:
        raise LiberoError(f"the environment of {python} lacks hf-libero; {REMEDY}")
    assets = Path(variables.get(ASSETS) or found[0] / "assets")
    return Installation(python, found[0], assets)
