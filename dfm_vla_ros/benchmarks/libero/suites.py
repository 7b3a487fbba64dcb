"""What an installation of LIBERO holds: tasks, stored states, assets; read from its files.

Meshes and textures are not in ``hf-libero``: it fetches them from a hub at first use. Here nothing
is fetched; what is missing is listed, with where to get it.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfm_vla_ros.benchmarks.libero import read_states
from dfm_vla_ros.errors import BenchmarkError
from dfm_vla_ros.resources import PACKAGE, resource_path

PYTHON, ASSETS = "LIBERO_PYTHON", "LIBERO_ASSETS"
"""Environment variables: interpreter of the simulator, folder of meshes and textures."""
REMEDY = f"run make libero-env, or set {PYTHON} to the interpreter of an environment that has it"
SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
MAP_NAME = "libero_task_map"
ASSET_LIST = "config/benchmarks/libero/assets.txt"
ASSET_SOURCE = (
    "the folder libero/libero/assets of github.com/Lifelong-Robot-Learning/LIBERO (MIT), or the "
    "data set lerobot/libero-assets of the hub"
)
SHOWN_ASSETS = 8


@dataclass(frozen=True)
class LiberoInstallation:
    """One installed simulator: its interpreter, folder ``libero/libero``, folder of assets."""

    python: Path
    package: Path
    assets: Path

    @property
    def task_map(self) -> Path:
        """The file that gives the order of the tasks."""
        return self.package / "benchmark" / "libero_suite_task_map.py"


def find_installation(environment: Mapping[str, str] | None = None) -> LiberoInstallation:
    """Return the installed simulator; ``environment``: variables, default: of this process."""
    variables = os.environ if environment is None else environment
    # Not resolved: the interpreter of a virtual environment is a link out of it.
    python = Path(variables.get(PYTHON) or PACKAGE.parent / ".libero" / "bin" / "python")
    if not python.is_file():
        raise BenchmarkError(f"LIBERO is not installed: {python} is no interpreter; {REMEDY}")
    found = sorted(python.parent.parent.glob("lib/python3*/site-packages/libero/libero"))
    if not found:
        raise BenchmarkError(f"the environment of {python} lacks hf-libero; {REMEDY}")
    return LiberoInstallation(python, found[0], Path(variables.get(ASSETS) or found[0] / "assets"))


@dataclass(frozen=True)
class LiberoTask:
    """One task; ``index``: in the suite's official order (task order 0).

    ``instruction`` is said to the policy, ``scene`` is the bddl file, ``states`` the file of the
    stored initial states.
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
    scene = next((i for i, word in enumerate(words) if word.startswith("SCENE")), -1)
    return " ".join(words[scene + 1 :] if name[0].isupper() else words)


def read_suites(installation: LiberoInstallation) -> dict[str, list[LiberoTask]]:
    """Return suite -> tasks, in the official order, without running the file that lists them."""
    path, names = installation.task_map, None
    try:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == MAP_NAME:
                names = ast.literal_eval(node.value)
    except (OSError, SyntaxError, ValueError) as error:
        raise BenchmarkError(f"{path} cannot be read ({error}); reinstall hf-libero") from error
    if names is None or not set(SUITES) <= set(names):
        raise BenchmarkError(f"{path} has no {MAP_NAME} of all suites; install hf-libero 0.1.4")
    scenes, states = installation.package / "bddl_files", installation.package / "init_files"
    return {
        suite: [
            LiberoTask(
                suite,
                index,
                name,
                instruction_of(name),
                scenes / suite / f"{name}.bddl",
                states / suite / f"{name}.pruned_init",
            )
            for index, name in enumerate(names[suite])
        ]
        for suite in SUITES
    }


def choose_tasks(
    installation: LiberoInstallation, suites: Sequence[str], indices: Sequence[int] | None = None
) -> list[LiberoTask]:
    """Return the tasks of ``suites``: all, or those of ``indices`` in each."""
    found = read_suites(installation)
    chosen: list[LiberoTask] = []
    for suite in suites:
        if suite not in found:
            raise BenchmarkError(f"there is no suite {suite!r}; there are {', '.join(found)}")
        tasks = found[suite]
        for index in range(len(tasks)) if indices is None else indices:
            if not 0 <= index < len(tasks):
                raise BenchmarkError(f"{suite} has tasks 0..{len(tasks) - 1}, not {index}")
            chosen.append(tasks[index])
    return chosen


def count_suites(
    installation: LiberoInstallation, list_tasks: bool, say: Callable[[str], None]
) -> bool:
    """Say how many scenes and stored states there are; return whether no scene is missing."""
    total = [0, 0, 0]
    for suite, tasks in read_suites(installation).items():
        states = [len(read_states(task.states)) for task in tasks]
        scenes = sum(task.scene.is_file() for task in tasks)
        say(f"{suite}: {len(tasks)} tasks, {scenes} bddl files, {sum(states)} stored states")
        for task, count in zip(tasks, states, strict=True) if list_tasks else ():
            say(f"  {task.index:2} {task.instruction} ({count})")
        counts = (len(tasks), scenes, sum(states))
        total = [all_ + more for all_, more in zip(total, counts, strict=True)]
    say(f"in all {total[1]} bddl files and {total[2]} stored states of {total[0]} tasks")
    return total[0] == total[1]


@dataclass(frozen=True)
class AssetReport:
    """How a folder compares with the list of ``files`` published ones; names of the odd ones."""

    folder: Path
    files: int
    missing: tuple[str, ...]
    different: tuple[str, ...]

    def record(self) -> dict[str, object]:
        """Return what a result says about its assets."""
        return {"files": self.files, "missing": self.missing, "different": self.different}

    @property
    def remedy(self) -> str:
        """Which files are missing and how to get them."""
        names = ", ".join(self.missing[:SHOWN_ASSETS])
        more = len(self.missing) - SHOWN_ASSETS
        listed = f"{names} and {more} more" if more > 0 else names
        return (
            f"{self.folder} lacks {len(self.missing)} of {self.files} assets: {listed}. Nothing "
            f"is fetched by itself: copy {ASSET_SOURCE} there, or set {ASSETS} to where it is; "
            "dfm-vla libero assets lists every file"
        )

    def lines(self) -> Iterator[str]:
        """Yield a line for every odd file, and a summary."""
        yield from (f"missing: {name}" for name in self.missing)
        yield from (f"different: {name}" for name in self.different)
        yield (
            f"{self.folder}: {self.files - len(self.missing)} of {self.files} files, "
            f"{len(self.different)} of them not as published"
        )
        if self.missing:
            yield self.remedy


def check_assets(folder: Path) -> AssetReport:
    """Compare ``folder`` with the list, file by file (0.2 GB are hashed: some seconds)."""
    expected = asset_hashes()
    there = [name for name in expected if (folder / name).is_file()]
    missing = tuple(name for name in expected if name not in there)
    different = tuple(name for name in there if blob_hash(folder / name) != expected[name])
    return AssetReport(folder, len(expected), missing, different)


def require_assets(installation: LiberoInstallation) -> AssetReport:
    """Return the report on an installation's assets, of which none may be missing."""
    report = check_assets(installation.assets)
    if report.missing:
        raise BenchmarkError(report.remedy)
    return report


def asset_hashes() -> dict[str, str]:
    """Return file name -> hash, of all published assets."""
    lines = resource_path(ASSET_LIST).read_text(encoding="utf-8").splitlines()
    rows = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return {name: digest for digest, name in rows}


def blob_hash(path: Path) -> str:
    """Return git's hash of a file: of its size and its content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
