"""Suites, tasks and stored states, read from the files of an installation without importing it."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfm_vla_ros.errors import LiberoError
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


SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
MAP_NAME = "libero_task_map"


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        suite: its suite.
        index: in the suite, in the official order (task order 0).
        name: of its files.
        instruction: the sentence that is said to the policy.
        scene: bddl file.
        states: file of the stored initial states.
    """

    suite: str
    index: int
    name: str
    instruction: str
    scene: Path
    states: Path


def instruction_of(name: str) -> str:
    """Return the sentence of a task, as every published evaluation says it.

    It comes from the file's name, not from ``(:language ...)`` in the file, which differs from it
    in places. Names of LIBERO-90 and -10 begin with a scene, such as ``KITCHEN_SCENE3_``.
    """
    words = name.split("_")
    scene = next((i for i, word in enumerate(words) if word.startswith("SCENE")), None)
    if not name[0].isupper() or scene is None:
        return " ".join(words)
    return " ".join(words[scene + 1 :])


def read_suites(installation: Installation) -> dict[str, list[Task]]:
    """Return suite -> tasks, in the official order.

    Raises:
        LiberoError: the list is missing or of another form.
    """
    names = _task_map(installation.task_map)
    missing = [suite for suite in SUITES if suite not in names]
    if missing:
        raise LiberoError(f"{installation.task_map} lacks the suite {missing[0]}; reinstall it")
    return {suite: _tasks(installation, suite, names[suite]) for suite in SUITES}


def find_task(suites: dict[str, list[Task]], suite: str, index: int) -> Task:
    """Return one task.

    Raises:
        LiberoError: there is none of this suite and index.
    """
    if suite not in suites:
        raise LiberoError(f"there is no suite {suite!r}; there are {', '.join(suites)}")
    if not 0 <= index < len(suites[suite]):
        raise LiberoError(f"{suite} has tasks 0..{len(suites[suite]) - 1}, not {index}")
    return suites[suite][index]


def choose_tasks(
    installation: Installation, suites: Sequence[str], indices: Sequence[int] | None
) -> list[Task]:
    """Return the tasks of ``suites``: all, or those of ``indices`` in each.

    Raises:
        LiberoError: there is no such suite or task.
    """
    found, chosen = read_suites(installation), []
    for suite in suites:
        numbers = range(len(found.get(suite, ()))) if indices is None else indices
        chosen += [find_task(found, suite, index) for index in numbers or (0,)]
    return chosen


def _task_map(path: Path) -> dict[str, list[str]]:
    """Return the dictionary that the file assigns, without running the file."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == MAP_NAME:
                return ast.literal_eval(node.value)
    except (OSError, SyntaxError, ValueError) as error:
        raise LiberoError(f"{path} cannot be read ({error}); reinstall hf-libero") from error
    raise LiberoError(f"{path} has no {MAP_NAME}; install hf-libero 0.1.4")


def _tasks(installation: Installation, suite: str, names: list[str]) -> list[Task]:
    return [
        Task(
            suite,
            index,
            name,
            instruction_of(name),
            installation.scenes / suite / f"{name}.bddl",
            installation.states / suite / f"{name}.pruned_init",
        )
        for index, name in enumerate(names)
    ]
