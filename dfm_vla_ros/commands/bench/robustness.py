"""``dfm-vla bench robustness``: a checkpoint under every perturbation, on the same seeds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.evaluation.options import add_joining, loop_config
from dfm_vla_ros.options import hardware, positive_count, positive_seconds, seed, versions
from dfm_vla_ros.workers import run_parallel

if TYPE_CHECKING:
    from dfm_vla_ros.evaluation.robustness import ConditionBook, Job, Outcome

TABLE = "table.md"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``robustness``."""
    parser = subparsers.add_parser(
        "robustness", help="success under every perturbation, wrong sentence and lost camera"
    )
    parser.add_argument("--checkpoint", type=Path, help="folder; default: the shipped one")
    parser.add_argument("--tasks", nargs="+", default=["pot_lift", "place_block"])
    parser.add_argument("--only", nargs="+", metavar="CONDITION", help="these, and clean")
    parser.add_argument("--episodes", type=positive_count, default=50)
    parser.add_argument("--seed", type=seed, default=4_000_000, help="of the first episode")
    parser.add_argument("--workers", type=positive_count, default=2)
    add_joining(parser)
    parser.add_argument("--timeout", type=positive_seconds, default=15.0, help="[s] an episode")
    parser.add_argument("--out", type=Path, required=True, help="folder; is continued")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the episodes that the folder lacks; write a result for each condition and a table."""
    from dfm_vla_ros.evaluation.robustness import ConditionBook
    from dfm_vla_ros.model.folder import folder_hash
    from dfm_vla_ros.resources import resource_path

    options.checkpoint = options.checkpoint or resource_path("checkpoints/default")
    jobs = _jobs(options)
    common = {"checkpoint": folder_hash(options.checkpoint), "loop": _loop_settings(options)}
    book = ConditionBook(options.out, common)
    missing = [job for job in jobs if job not in book.outcomes]
    print(f"{len(jobs) - len(missing)} episodes present, {len(missing)} to run", flush=True)
    if missing:
        workers = min(options.workers, len(missing))
        for job, outcome in run_parallel(_episode, missing, workers, _start, (options,)):
            book.keep(job, outcome)
            print(f"{' '.join(map(str, job))}: {_short(outcome)}", flush=True)
    lines = _write(options, book, common, list(dict.fromkeys(job[0] for job in jobs)))
    print("\n".join(lines))
    return 1 if any(isinstance(book.outcomes[job], str) for job in jobs) else 0


def _jobs(options: argparse.Namespace) -> list[Job]:
    """Return condition by condition, each task's seeds."""
    from dfm_vla_ros.evaluation.robustness import CLEAN, conditions
    from dfm_vla_ros.sim.tasks import make_task

    found = {make_task(task).name: conditions(task) for task in options.tasks}
    names = list(dict.fromkeys(name for each in found.values() for name in each))
    unknown = set(options.only or ()) - set(names)
    if unknown:
        raise DfmVlaError(
            f"no condition {', '.join(sorted(unknown))}; there are {', '.join(names)}"
        )
    kept = [CLEAN, *(name for name in names if name in (options.only or names) and name != CLEAN)]
    seeds = range(options.seed, options.seed + options.episodes)
    return [
        (name, task, number)
        for name in kept
        for task in found
        if name in found[task]
        for number in seeds
    ]


def _loop_settings(options: argparse.Namespace) -> dict[str, Any]:
    names = ("mode", "latency", "warm_start", "speed", "timeout")
    return {name: getattr(options, name) for name in names}


def _short(outcome: Outcome) -> str:
    if isinstance(outcome, str):
        return f"error: {outcome}"
    return f"{outcome.ended}, {outcome.seconds:.1f} s"


def _write(
    options: argparse.Namespace, book: ConditionBook, common: dict[str, Any], names: Sequence[str]
) -> list[str]:
    """Write each condition's result, which ``compare`` and ``eval --beside`` read, and a table."""
    from dfm_vla_ros.evaluation.robustness import conditions, table
    from dfm_vla_ros.model.loading import load_checkpoint

    known = {name: found for task in options.tasks for name, found in conditions(task).items()}
    seeds = range(options.seed, options.seed + options.episodes)
    about = {
        **common,
        "decoder": asdict(load_checkpoint(options.checkpoint).config.decoder),
        "seed": options.seed,
        "versions": versions(),
        "hardware": hardware(),
    }
    results = {
        name: {
            "tasks": book.rows_of(name, seeds),
            "setting": asdict(known[name].setting),
            "black_cameras": known[name].dark_cameras,
            **about,
        }
        for name in names
    }
    for name, result in results.items():
        (options.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    lines = table(results)
    (options.out / TABLE).write_text("\n".join(lines) + "\n")
    return lines


_loop: Any = None


def _start(options: argparse.Namespace) -> None:
    """Load policy and twin once in each process."""
    global _loop
    from dfm_vla_ros.evaluation.runner import load_loop

    _loop = load_loop(options.checkpoint, loop_config(options))


def _episode(job: Job) -> tuple[Job, Outcome]:
    from dfm_vla_ros.evaluation.robustness import conditions

    name, task, number = job
    condition = conditions(task)[name]
    _loop.twin.setting, _loop.twin.dark_cameras = condition.setting, condition.dark_cameras
    try:
        return job, _loop.run(task, number)
    except DfmVlaError as error:
        return job, str(error)
