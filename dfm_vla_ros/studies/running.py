"""Trains what a study lacks and runs the episodes it lacks, in worker processes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.evaluation.robustness import ConditionBook, Outcome
from dfm_vla_ros.evaluation.runner import make_loop
from dfm_vla_ros.model.folder import folder_hash
from dfm_vla_ros.model.loading import load_checkpoint
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.studies.schema import Study
from dfm_vla_ros.studies.variants import Variant, folder_name
from dfm_vla_ros.training.config import TrainConfig
from dfm_vla_ros.training.loop import train
from dfm_vla_ros.training.run_folder import RunFolder, load_progress
from dfm_vla_ros.workers import run_parallel

EPISODE = "episode"
"""The one condition of a variant's book."""
Job = tuple[int, str, int]
"""Index of the variant, task, seed."""


def missing_runs(variants: Sequence[Variant]) -> list[TrainConfig]:
    """Return the runs that are not at their end, each once."""
    runs = {found.train.out: found.train for found in variants if found.train is not None}
    return [config for config in runs.values() if not finished(config)]


def finished(config: TrainConfig) -> bool:
    """Return whether the run in ``config.out`` has taken all its steps."""
    folder = RunFolder(config.out)
    return folder.checkpoint.is_dir() and load_progress(folder.last).step >= config.steps


def train_missing(variants: Sequence[Variant], workers: int) -> Iterator[str]:
    """Train what is missing, go on with what was stopped; yield the folder of each run."""
    missing = missing_runs(variants)
    if missing:
        yield from run_parallel(_train, missing, min(workers, len(missing)))


def _train(config: TrainConfig) -> str:
    train(config)
    return config.out


def open_book(variant: Variant, out: Path) -> ConditionBook:
    """Return the variant's episodes so far.

    Raises:
        DfmVlaError: those in ``out`` are of another definition or of another checkpoint.
    """
    common = variant.definition(folder_hash(variant.checkpoint))
    return ConditionBook(out / "episodes" / folder_name(variant), common)


def run_missing(
    study: Study, variants: Sequence[Variant], books: Sequence[ConditionBook], workers: int
) -> Iterator[tuple[Job, Outcome]]:
    """Run the episodes that the books lack, one variant after the other, and keep them."""
    jobs = [
        (index, task, seed)
        for index, book in enumerate(books)
        for task in study.tasks
        for seed in range(study.seed, study.seed + study.episodes)
        if (EPISODE, task, seed) not in book.outcomes
    ]
    if not jobs:
        return
    workers = min(workers, len(jobs))
    for job, outcome in run_parallel(_episode, jobs, workers, _start, (tuple(variants),)):
        books[job[0]].keep((EPISODE, *job[1:]), outcome)
        yield job, outcome


def make_policy(variant: Variant) -> Policy:
    """Return the variant's policy on the CPU.

    Raises:
        CheckpointError, TokenizerError: the checkpoint is damaged.
        StudyError: a change makes no sense.
    """
    checkpoint = load_checkpoint(variant.checkpoint)
    path = variant.path(checkpoint.config.path)
    checkpoint.config = replace(checkpoint.config, path=path)
    decoder, caching = variant.decoder(), variant.caching()
    return Policy(checkpoint, folder_hash(variant.checkpoint), decoder, caching=caching)


_variants: tuple[Variant, ...] = ()
_loop: tuple[int, Any] = (-1, None)


def _start(variants: tuple[Variant, ...]) -> None:
    """Remember the variants in each process."""
    global _variants
    import torch

    torch.set_num_threads(1)
    _variants = variants


def _episode(job: Job) -> tuple[Job, Outcome]:
    global _loop
    index, task, seed = job
    try:
        if _loop[0] != index:
            _loop = index, _make_loop(_variants[index])
        return job, _loop[1].run(task, seed)
    except DfmVlaError as error:
        return job, str(error)


def _make_loop(variant: Variant) -> Any:
    loop = make_loop(make_policy(variant), variant.loop, variant.dark_cameras, variant.setting)
    if variant.loop.execute_steps:
        loop.config = replace(loop.config, execute_steps=variant.loop.execute_steps)
    return loop


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` to ``path``."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
