"""An evaluation: which episodes, how they are shared out, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dfm_vla_ros.benchmarks import served
from dfm_vla_ros.benchmarks.libero.protocol import Answer, Job, Protocol
from dfm_vla_ros.benchmarks.libero.suites import Installation, Task
from dfm_vla_ros.benchmarks.libero.variation import CameraShift, Variation
from dfm_vla_ros.benchmarks.results import Book, Episode, Progress, markdown, rows, write_result
from dfm_vla_ros.benchmarks.results import Job as Place
from dfm_vla_ros.benchmarks.served import changed_preset, read_presets
from dfm_vla_ros.benchmarks.simulators import Program, SimulatorPool
from dfm_vla_ros.errors import LiberoError
from dfm_vla_ros.report.pictures import FilmEncoder

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


@dataclass(frozen=True)
class Plan:
    """What is evaluated.

    Attributes:
        tasks: in order.
        protocol: how.
        variation: what differs from the stored scenes.
        cameras: the policy's name for a camera -> LIBERO's.
        scenes: task's name -> bddl file instead of its own; such tasks have no stored states.
        words: task's name -> sentence instead of its own.
        films: how many episodes of each task are filmed.
        folder: where films and actions go.
    """

    tasks: Sequence[Task]
    protocol: Protocol
    variation: Variation
    folder: Path
    cameras: Mapping[str, str] = field(default_factory=dict)
    scenes: Mapping[str, Path] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    films: int = 0

    def places(self) -> list[Place]:
        """Return all episodes."""
        numbers = range(self.protocol.episodes)
        return [(task.suite, task.name, number) for task in self.tasks for number in numbers]

    def groups(self, places: Iterable[Place], workers: int) -> list[list[Job]]:
        """Return the jobs of ``places``: those of a task together, or in blocks for all workers.

        A block that does not begin with the first episode draws the placements before it again.
        """
        wanted = set(places)
        found = []
        blocks = -(-workers // len(self.tasks)) if self.tasks else 1
        for task in self.tasks:
            numbers = range(self.protocol.episodes)
            jobs = [self.job(task, n) for n in numbers if (task.suite, task.name, n) in wanted]
            size = max(1, -(-len(jobs) // blocks))
            found += [jobs[start : start + size] for start in range(0, len(jobs), size)]
        return found

    def job(self, task: Task, number: int) -> Job:
        """Return one episode of a task."""
        scene = self.scenes.get(task.name)
        filmed = number < self.films
        return Job(
            task.suite,
            task.index,
            number,
            str(scene or task.scene),
            "" if scene else str(task.states),
            self.words.get(task.name, task.instruction),
            self.protocol.record(),
            self.variation.record(),
            cameras=dict(self.cameras),
            keep=str(self.kept(task, number)) if filmed else "",
            film=filmed,
        )

    def kept(self, task: Task, number: int) -> Path:
        """Return the folder of what an episode leaves."""
        return self.folder / "episodes" / task.suite / task.name / f"{number:02d}"

    def common(self, checkpoint: str, simulator: Mapping[str, Any]) -> dict[str, Any]:
        """Return what all episodes of a book have in common."""
        return {
            "checkpoint": checkpoint,
            "protocol": self.protocol.record(),
            "variation": self.variation.record(),
            "cameras": dict(self.cameras),
            "simulator": dict(simulator),
        }


def episode(task: Task, job: Job, answer: Answer) -> Episode:
    """Return what is written down of an episode."""
    details = {
        "calls": answer.calls,
        "policy_s": answer.policy_s,
        "reset_s": answer.reset_s,
        "state_hash": answer.state_hash,
    }
    return Episode(
        task.suite,
        task.name,
        job.number,
        bool(answer.success),
        answer.steps,
        answer.seconds + answer.reset_s,
        answer.error,
        {} if answer.error else details,
    )


MODULE = "dfm_vla_ros.benchmarks.libero.worker"


def program(installation: Installation) -> Program:
    """Return what runs in the environment of ``installation``."""
    paths = (str(installation.package), str(installation.assets))
    return Program(installation.python, MODULE, paths, Answer, {"success": None})


Say = Callable[[str], None]
RATE_HZ = 20.0
"""LIBERO's control rate."""
FILM, FRAMES = "film.mp4", "frames.npy"


def evaluate(
    plan: Plan,
    installation: Installation,
    addresses: Sequence[str],
    limit_s: float,
    about: Mapping[str, Any],
    again: bool = False,
    say: Say = print,
) -> int:
    """Run what is missing of ``plan`` and write the result; return 1 if episodes broke.

    Args:
        plan: the episodes.
        installation: of the simulator.
        addresses: of policies; as many simulators run.
        limit_s: an episode that takes longer is an error [s].
        about: what the result says besides.
        again: whether episodes that ended in an error are run again.
        say: takes a line at a time.

    Raises:
        ResultsError: the folder holds episodes of other settings.
        SimulatorLost, RemoteError: simulator or policy do not start.
    """
    policy = served.about(addresses)
    with SimulatorPool(program(installation), len(addresses), plan.folder / "logs") as pool:
        book = Book(plan.folder, plan.common(policy.checkpoint_hash, pool.about))
        places = plan.places()
        missing = book.missing(places, again)
        progress = Progress(len(places), len(places) - len(missing))
        tasks = {(task.suite, task.index): task for task in plan.tasks}

        def assign(number: int, job: Job) -> Job:
            return replace(job, policy=addresses[number])

        for job, answer in pool.run(plan.groups(missing, len(addresses)), assign, limit_s):
            ended = episode(tasks[job.suite, job.task], job, answer)
            book.add(ended)
            _film(job, answer, plan.protocol.replan)
            say(progress.add(ended))
    found = rows(book.episodes)
    for line in markdown(found):
        say(line)
    if missing:
        say(f"{progress.per_hour():.0f} episodes an hour with {len(addresses)} simulators")
    say(f"result: {write_result(plan.folder, book, about)}")
    return int(any(row.errors for row in found))


def _film(job: Job, answer: Answer, replan: int) -> None:
    """Turn an episode's frames into a film."""
    frames = Path(job.keep) / FRAMES if job.keep else None
    if frames is None or not frames.exists():
        return
    every = job.protocol["rendering"] == "always"
    encoder = FilmEncoder(RATE_HZ if every else RATE_HZ / replan, job.instruction)
    for frame in np.load(frames):
        half = frame.shape[1] // 2
        encoder.add({"agentview": frame[:, :half], "eye_in_hand": frame[:, half:]})
    film = encoder.finish()
    if film is not None and answer.success is not None:
        word = "success" if answer.success else "failure"
        (frames.parent / f"{word}_{FILM}").write_bytes(film.data)
    frames.unlink()
