"""``dfm-vla eval``: success of a checkpoint in the twin, without ROS."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.evaluation.options import add_joining, loop_config
from dfm_vla_ros.options import (
    add_black_cameras,
    black_cameras,
    positive_count,
    positive_seconds,
    seed,
    versions,
)
from dfm_vla_ros.workers import run_parallel

if TYPE_CHECKING:
    from dfm_vla_ros.evaluation.runner import EpisodeResult


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``eval``."""
    parser = subparsers.add_parser("eval", help="success rate of a checkpoint in the twin")
    parser.add_argument("--checkpoint", type=Path, help="folder; default: the shipped one")
    parser.add_argument("--task", default="place_block", help="a task, or all it was trained on")
    parser.add_argument("--episodes", type=positive_count, default=50)
    parser.add_argument("--seed", type=seed, default=1_000_000, help="of the first episode")
    parser.add_argument("--workers", type=positive_count, default=2)
    add_joining(parser)
    parser.add_argument("--timeout", type=positive_seconds, default=20.0, help="[s] an episode")
    parser.add_argument("--steps", type=int, help="refinement steps instead of the checkpoint's")
    parser.add_argument("--validation", type=int, help="validation steps, likewise")
    add_black_cameras(parser)
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the episodes, print a line for each and a table at the end."""
    from dfm_vla_ros.model.folder import folder_hash
    from dfm_vla_ros.model.loading import load_checkpoint
    from dfm_vla_ros.resources import resource_path

    options.checkpoint = options.checkpoint or resource_path("checkpoints/default")
    config = load_checkpoint(options.checkpoint).config
    tasks = list(config.tasks) if options.task == "all" else [options.task]
    rows = [_run_task(options, task) for task in tasks]
    if options.json:
        content = {
            "tasks": rows,
            "checkpoint": folder_hash(options.checkpoint),
            "decoder": asdict(replace(config.decoder, **_decoder(options))),
            "black_cameras": black_cameras(options),
            "seed": options.seed,
            "loop": {
                "mode": options.mode,
                "latency": options.latency,
                "warm_start": options.warm_start,
                "speed": options.speed,
                "timeout": options.timeout,
            },
            "versions": versions(),
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 1 if any(row["errors"] for row in rows) else 0


def _decoder(options: argparse.Namespace) -> dict[str, int]:
    """Return what the command line changes of the checkpoint's decoder."""
    given = {"refinement_steps": options.steps, "validation_steps": options.validation}
    return {key: value for key, value in given.items() if value is not None}


def _run_task(options: argparse.Namespace, task: str) -> dict[str, Any]:
    from dfm_vla_ros.evaluation.statistics import wilson

    began, results, errors = time.monotonic(), [], 0
    jobs = [(task, number) for number in range(options.seed, options.seed + options.episodes)]
    workers = min(options.workers, options.episodes)
    for number, result in run_parallel(_episode, jobs, workers, _start, (options,)):
        if isinstance(result, str):
            errors += 1
            print(f"{task} seed {number}: error: {result}", flush=True)
        else:
            results.append(result)
            _print_result(result)
    successes, episodes = sum(result.success for result in results), len(results)
    low, high = wilson(successes, episodes)
    rate = successes / max(1, episodes)
    print(f"{task}: {successes}/{episodes} = {rate:.0%} [{low:.0%}, {high:.0%}], {errors} errors")
    return {
        "task": task,
        "episodes": options.episodes,
        "successes": successes,
        "failures": episodes - successes,
        "errors": errors,
        "interval": [low, high],
        "seconds": time.monotonic() - began,
        "results": [asdict(r) for r in sorted(results, key=lambda r: r.seed)],
    }


def _print_result(result: EpisodeResult) -> None:
    outcome = "success" if result.success else f"failure at {result.progress:.2f}"
    print(
        f"{result.task} seed {result.seed}: {outcome}, {result.seconds:.1f} s, "
        f"{result.chunks} chunks, {result.refused} refused, "
        f"{result.motion.pause_s:.2f} s of pauses, "
        f"inference {1e3 * result.inference_s:.0f} ms",
        flush=True,
    )


_loop: Any = None


def _start(options: argparse.Namespace) -> None:
    """Load policy and twin once in each process."""
    global _loop
    from dfm_vla_ros.evaluation.loading import load_loop

    _loop = load_loop(
        options.checkpoint, loop_config(options), _decoder(options), black_cameras(options)
    )


def _episode(job: tuple[str, int]) -> tuple[int, EpisodeResult | str]:
    """Return the seed and how it went, or what went wrong."""
    try:
        return job[1], _loop.run(*job)
    except DfmVlaError as error:
        return job[1], str(error)
