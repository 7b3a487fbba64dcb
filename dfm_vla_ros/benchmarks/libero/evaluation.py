"""LIBERO's evaluation: which episodes, how they are shared out, and recorded actions again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dfm_vla_ros.benchmarks import EpisodeId, EpisodeOutcome
from dfm_vla_ros.benchmarks.evaluation import BenchmarkPlan, presets
from dfm_vla_ros.benchmarks.libero import ACTION_NAMES, LiberoJob, LiberoProtocol
from dfm_vla_ros.benchmarks.libero.scenes import (
    CameraShift,
    SceneVariation,
    read_definitions,
    scene_change,
)
from dfm_vla_ros.benchmarks.libero.suites import LiberoInstallation, LiberoTask
from dfm_vla_ros.benchmarks.processes import Program, SimulatorPool
from dfm_vla_ros.errors import BenchmarkError, SceneError
from dfm_vla_ros.files import write_text

Say = Callable[[str], None]


def find_variation(name: str) -> SceneVariation:
    """Return a preset; "" is the stored scene, a LIBERO-Plus task's name its camera."""
    if not name:
        return SceneVariation()
    if "_view_" in name:
        return SceneVariation(name, CameraShift.of_name(name))
    found = presets(SceneVariation)
    if name not in found:
        raise BenchmarkError(
            f"there is no variation {name!r}; there are {', '.join(found)}, and the names of "
            "LIBERO-Plus's tasks such as _view_15_0_120_0_0_initstate_0"
        )
    return found[name]


def program(installation: LiberoInstallation) -> Program:
    """Return what runs in the environment of ``installation``."""
    paths = (str(installation.package), str(installation.assets))
    return Program(installation.python, "dfm_vla_ros.benchmarks.libero.simulator", paths)


@dataclass(frozen=True, kw_only=True)
class LiberoPlan(BenchmarkPlan):
    """What is evaluated; ``films`` episodes of each task are filmed.

    Attributes:
        variation: what differs from the stored scenes.
        scenes: task's name -> bddl file instead of its own; such tasks have no stored states.
        words: task's name -> sentence instead of its own.
    """

    protocol: LiberoProtocol
    tasks: Sequence[LiberoTask]
    variation: SceneVariation = field(default_factory=SceneVariation)
    scenes: Mapping[str, Path] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)

    def episodes(self) -> list[EpisodeId]:
        """Return all episodes."""
        numbers = range(self.protocol.episodes)
        return [(task.suite, task.name, number) for task in self.tasks for number in numbers]

    def groups(self, episodes: Iterable[EpisodeId], workers: int) -> list[list[LiberoJob]]:
        """Return the jobs of ``episodes``: those of a task together, or in blocks for all workers.

        A block that does not begin with the first episode draws the placements before it again.
        """
        wanted = set(episodes)
        found = []
        blocks = -(-workers // len(self.tasks)) if self.tasks else 1
        for task in self.tasks:
            numbers = range(self.protocol.episodes)
            jobs = [self.job(task, n) for n in numbers if (task.suite, task.name, n) in wanted]
            size = max(1, -(-len(jobs) // blocks))
            found += [jobs[start : start + size] for start in range(0, len(jobs), size)]
        return found

    def job(self, task: LiberoTask, number: int) -> LiberoJob:
        """Return one episode of a task."""
        scene = self.scenes.get(task.name)
        kept = self.folder / "episodes" / task.suite / task.name / f"{number:02d}"
        return LiberoJob(
            task.suite,
            task.name,
            number,
            asdict(self.protocol),
            cameras=dict(self.cameras),
            keep=str(kept) if number < self.films else "",
            index=task.index,
            scene=str(scene or task.scene),
            states="" if scene else str(task.states),
            instruction=self.words.get(task.name, task.instruction),
            variation=asdict(self.variation),
        )

    def common(self, checkpoint: str, simulator: Mapping[str, Any]) -> dict[str, Any]:
        """Return what all episodes of a book have in common."""
        return super().common(checkpoint, simulator) | {"variation": asdict(self.variation)}

    def film_path(self, job: LiberoJob, success: bool) -> Path:
        """Return where the film of an episode goes, among what else it leaves."""
        return Path(job.keep) / f"{'success' if success else 'failure'}_film.mp4"


def changed_plan(plan: LiberoPlan, definitions: Path | None, say: Say) -> LiberoPlan:
    """Return the plan with the scenes and sentences that its variation takes from LIBERO-PRO.

    Tasks without such an alternative, or whose scene it does not fit, are said and left out.

    ``definitions`` is LIBERO-PRO's folder ``libero_ood``.
    """
    variation, kept = plan.variation, []
    if not variation.definitions:
        return plan
    listed = read_definitions(definitions, variation.definitions)
    scenes: dict[str, Path] = {}
    words: dict[str, str] = {}
    for task in plan.tasks:
        try:
            found = scene_change(listed, variation, (task.suite, task.name), task.scene)
        except SceneError as error:
            found = None
            say(f"{task.name}: {error}")
        if found is None:
            say(f"{task.suite} {task.name} is left out: no alternative {variation.choice}")
            continue
        kept.append(task)
        sentence, text = found
        if sentence is not None:
            words[task.name] = sentence
        if text is not None:
            path = (plan.folder / "scenes" / f"{task.suite}_{task.name}.bddl").resolve()
            write_text(path, text)
            scenes[task.name] = path
    return replace(plan, tasks=kept, scenes=scenes, words=words)


def replay(
    installation: LiberoInstallation,
    plan: LiberoPlan,
    number: int,
    actions: Path,
    times: int,
    limit_s: float,
    keep: Path | None = None,
    say: Say = print,
) -> bool:
    """Play recorded actions from a stored state, to see whether simulator and verdict are sound.

    Args:
        installation: of the simulator.
        plan: of one task; its gripper rule is not used, the actions are the simulator's.
        number: of the stored state.
        actions: file of (T, 7), .npy.
        times: at least 1.
        limit_s: longer is an error [s].
        keep: folder for actions, states and frames of each time; None: nothing is kept.
        say: takes a line.

    Returns:
        Whether the task was done and all states were the same each time.
    """
    check_actions(actions)
    (task,) = plan.tasks
    job = replace(plan.job(task, number), actions=str(actions.resolve()), keep="")
    kept = [str(keep.resolve() / str(time)) if keep else "" for time in range(times)]
    jobs = [replace(job, keep=folder) for folder in kept]
    found = []
    with SimulatorPool(program(installation), [""], (keep or actions.parent) / "logs") as pool:
        for _, episode in pool.run([jobs], limit_s):
            say(_played(episode))
            found.append(episode)
    same = len({episode.details.get("state_hash", "") for episode in found}) == 1
    say(f"{task.instruction}: the states are {'the same' if same else 'not the same'} each time")
    return same and all(episode.success for episode in found)


def check_actions(path: Path) -> None:
    """Raise BenchmarkError unless the file holds finite actions (T, 7)."""
    try:
        actions = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{path} cannot be read ({error}); give an array in .npy") from error
    if actions.ndim != 2 or actions.shape[1] != len(ACTION_NAMES) or not len(actions):
        raise BenchmarkError(
            f"{path} holds {actions.shape}, expected (T, 7): {', '.join(ACTION_NAMES)}"
        )
    if not np.isfinite(actions).all():
        raise BenchmarkError(f"{path} holds a number that is not finite; record them again")


def _played(episode: EpisodeOutcome) -> str:
    if episode.error:
        return f"error: {episode.error}"
    reset_s = episode.details["reset_s"]
    rate = episode.steps / max(episode.seconds - reset_s, 1e-9)
    return (
        f"{'success' if episode.success else 'failure'} after {episode.steps} steps, "
        f"{rate:.1f} steps/s, reset {reset_s:.1f} s, states {episode.details['state_hash']}"
    )
