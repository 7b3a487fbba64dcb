"""Runs a plan: simulators, policies, the book of episodes, films."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dfm_vla_ros.benchmarks import served
from dfm_vla_ros.benchmarks.libero.evaluation import Plan, episode
from dfm_vla_ros.benchmarks.libero.installation import Installation
from dfm_vla_ros.benchmarks.libero.jobs import Answer, Job
from dfm_vla_ros.benchmarks.libero.running import program
from dfm_vla_ros.benchmarks.progress import Progress
from dfm_vla_ros.benchmarks.results import Book, markdown, rows, write_result
from dfm_vla_ros.benchmarks.simulators import SimulatorPool
from dfm_vla_ros.report.pictures import FilmEncoder

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
