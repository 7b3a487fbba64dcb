"""An evaluation: which episodes, how they are shared out, and what they come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfm_vla_ros.benchmarks.libero.jobs import Answer, Job
from dfm_vla_ros.benchmarks.libero.protocol import Protocol
from dfm_vla_ros.benchmarks.libero.suites import Task
from dfm_vla_ros.benchmarks.libero.variation import Variation
from dfm_vla_ros.benchmarks.results import Episode
from dfm_vla_ros.benchmarks.results import Job as Place


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
