"""An evaluation: which chains, how they are shared out, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from dfm_vla_ros.benchmarks.calvin.protocol import Answer, Job, Protocol
from dfm_vla_ros.benchmarks.calvin.sequences import (
    IN_A_ROW,
    OFFICIAL,
    SUITE,
    TASK,
    Chain,
    checksum,
)
from dfm_vla_ros.benchmarks.results import Book, Episode, Progress
from dfm_vla_ros.benchmarks.results import Job as Place
from dfm_vla_ros.benchmarks.served import changed_preset, read_presets
from dfm_vla_ros.benchmarks.simulators import Program, SimulatorPool
from dfm_vla_ros.errors import CalvinError
from dfm_vla_ros.report.pictures import FilmEncoder

FRAMES_HZ = 10.0
"""Of the video; a frame is what the policy saw, so its pace is not that of the robot."""


def encode_film(path: Path) -> None:
    """Replace the frames (N, H, W, 3) in ``path``, .npy, by an .mp4 of the same name."""
    encoder = FilmEncoder(FRAMES_HZ)
    for image in np.load(path):
        encoder.add({"static": image})
    film = encoder.finish()
    if film is not None:
        path.with_suffix(".mp4").write_bytes(film.data)
    path.unlink()


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


STEP_LIMIT_S, START_LIMIT_S = 5.0, 300.0
"""A chain that takes longer than these for its steps and its start hangs."""


@dataclass(frozen=True)
class Plan:
    """What is evaluated.

    Attributes:
        chains: the whole list.
        numbers: rows that are run.
        protocol: how.
        folder: where films go.
        cameras: the policy's name for a camera -> CALVIN's.
        films: how many chains, from the first of ``numbers``, are filmed.
    """

    chains: Sequence[Chain]
    numbers: Sequence[int]
    protocol: Protocol
    folder: Path
    cameras: Mapping[str, str] = field(default_factory=dict)
    films: int = 0

    @property
    def limit_s(self) -> float:
        """The longest time of a chain [s]."""
        longest = max(len(chain.tasks) for chain in self.chains)
        return START_LIMIT_S + STEP_LIMIT_S * self.protocol.steps * longest

    def settled(self, execute_steps: int) -> Self:
        """Return the plan with the replan interval of a policy, unless it has its own."""
        replan = self.protocol.replan or execute_steps
        return replace(self, protocol=replace(self.protocol, replan=replan))

    def places(self) -> list[Place]:
        """Return all episodes."""
        return [(SUITE, TASK, number) for number in self.numbers]

    def job(self, number: int) -> Job:
        """Return the job of a row."""
        chain = self.chains[number]
        filmed = number in self.numbers[: self.films]
        return Job(
            number,
            dict(chain.state),
            list(chain.tasks),
            self.protocol.record(),
            cameras=dict(self.cameras),
            film=str(self.folder / f"chain{number:04d}.npy") if filmed else "",
        )

    def common(self, checkpoint: str, simulator: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is the same for all of a book, which refuses other lists and budgets."""
        found = checksum(self.chains)
        return {
            "checkpoint": checkpoint,
            "list": {"checksum": found, "official": found == OFFICIAL, "chains": len(self.chains)},
            "protocol": self.protocol.record(),
            "cameras": dict(self.cameras),
            "simulator": dict(simulator),
        }


def evaluate(
    plan: Plan,
    pool: SimulatorPool,
    addresses: Sequence[str],
    book: Book,
    places: Iterable[Place],
    say: Callable[[str], None],
    filmed: Callable[[Path], None],
) -> None:
    """Run the chains of ``places``, keep each in ``book`` as it ends and say so.

    Args:
        plan: what is evaluated.
        pool: the simulators.
        addresses: of the policies, one for each simulator.
        book: of the results.
        places: of ``plan.places()``, those that are to be run.
        say: takes a line for each chain.
        filmed: takes the file of frames of each chain that was filmed.
    """
    numbers = [number for _, _, number in places]
    progress = Progress(len(plan.numbers), len(plan.numbers) - len(numbers))

    def assign(number: int, job: Job) -> Job:
        return replace(job, policy=addresses[number])

    jobs = [[plan.job(number)] for number in numbers]
    for job, answer in pool.run(jobs, assign, plan.limit_s):
        ended = episode(job, answer)
        book.add(ended)
        say(f"{progress.add(ended)}, {answer.in_a_row} of {len(job.tasks)} in a row")
        if job.film and not answer.error:
            filmed(Path(job.film))


def episode(job: Job, answer: Answer) -> Episode:
    """Return what is written down of a chain."""
    details = {
        IN_A_ROW: answer.in_a_row,
        "steps": answer.steps,
        "calls": answer.calls,
        "policy_s": answer.policy_s,
        "state_hash": answer.state_hash,
    }
    return Episode(
        SUITE,
        TASK,
        job.number,
        not answer.error and answer.in_a_row == len(job.tasks),
        sum(answer.steps),
        answer.seconds,
        answer.error,
        {} if answer.error else details,
    )
