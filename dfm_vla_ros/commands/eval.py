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
    hardware,
    positive_count,
    positive_seconds,
    seed,
    versions,
)
from dfm_vla_ros.robot.joints import CAMERAS
from dfm_vla_ros.sim.perturbations import add_perturbation, add_phrasing, add_variation, setting
from dfm_vla_ros.workers import run_parallel

if TYPE_CHECKING:
    from dfm_vla_ros.evaluation.runner import EpisodeResult, Watch
    from dfm_vla_ros.report.content import EvaluationRun, Film

    Films = dict[tuple[str, int], Film]


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
    add_variation(parser)
    add_phrasing(parser)
    add_perturbation(parser)
    add_black_cameras(parser)
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write a page, a table and films there"
    )
    parser.add_argument(
        "--beside",
        type=Path,
        nargs="+",
        default=[],
        metavar="JSON",
        help="earlier results to show on the page too",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the episodes, print a line for each and a table at the end."""
    from dfm_vla_ros.model.folder import folder_hash
    from dfm_vla_ros.model.loading import load_checkpoint
    from dfm_vla_ros.resources import resource_path

    options.checkpoint = options.checkpoint or resource_path("checkpoints/default")
    config = load_checkpoint(options.checkpoint).config
    tasks = list(config.tasks) if options.task == "all" else [options.task]
    films: Films = {}
    others = _others(options)  # before the episodes: a wrong file shows at once
    rows = [_run_task(options, task, films) for task in tasks]
    content = {
        "tasks": [row | {"instruction": config.tasks.get(row["task"], "")} for row in rows],
        "checkpoint": folder_hash(options.checkpoint),
        "decoder": asdict(replace(config.decoder, **_decoder(options))),
        "setting": asdict(setting(options)),
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
        "hardware": hardware(),
    }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    if options.report:
        _report(options, content, films, others)
    return 1 if any(row["errors"] for row in rows) else 0


def _others(options: argparse.Namespace) -> list[EvaluationRun]:
    from dfm_vla_ros.evaluation.report import read_result

    return [read_result(path) for path in options.beside]


def _report(
    options: argparse.Namespace,
    content: dict[str, Any],
    films: Films,
    others: list[EvaluationRun],
) -> None:
    from dfm_vla_ros.evaluation.report import write_folder

    name = options.checkpoint.resolve().name
    print(f"report: {write_folder(options.report, name, content, films, others)}")


def _decoder(options: argparse.Namespace) -> dict[str, int]:
    """Return what the command line changes of the checkpoint's decoder."""
    given = {"refinement_steps": options.steps, "validation_steps": options.validation}
    return {key: value for key, value in given.items() if value is not None}


def _run_task(options: argparse.Namespace, task: str, films: Films) -> dict[str, Any]:
    """Return the row of a task; what its cameras saw goes to ``films`` if a report is wanted."""
    from dfm_vla_ros.evaluation.runner import line, summarise

    began, results, messages = time.monotonic(), [], {}
    jobs = [(task, number) for number in range(options.seed, options.seed + options.episodes)]
    workers = min(options.workers, options.episodes)
    for number, result, film in run_parallel(_episode, jobs, workers, _start, (options,)):
        if film is not None:
            films[task, number] = film
        if isinstance(result, str):
            messages[number] = result
            print(f"{task} seed {number}: error: {result}", flush=True)
        else:
            results.append(result)
            _print_result(result)
    summary = summarise(task, results, messages, time.monotonic() - began)
    print(line(summary), flush=True)
    return summary


def _print_result(result: EpisodeResult) -> None:
    outcome = "success" if result.success else f"{result.ended} at {result.progress:.2f}"
    print(
        f"{result.task} seed {result.seed}: {outcome}, {result.seconds:.1f} s, "
        f"{result.chunks} chunks, {result.refused} refused, "
        f"{result.motion.pause_s:.2f} s of pauses, "
        f"inference {1e3 * result.inference_s:.0f} ms",
        flush=True,
    )


_loop: Any = None
_filmed = False


def _start(options: argparse.Namespace) -> None:
    """Load policy and twin once in each process."""
    global _loop, _filmed
    from dfm_vla_ros.evaluation.runner import load_loop

    _filmed = options.report is not None
    _loop = load_loop(
        options.checkpoint,
        loop_config(options),
        _decoder(options),
        black_cameras(options),
        setting(options),
    )


def _episode(job: tuple[str, int]) -> tuple[int, EpisodeResult | str, Film | None]:
    """Return the seed, how it went, or what went wrong, and what the cameras saw."""
    if not _filmed:
        return job[1], _outcome(job, None), None
    from dfm_vla_ros.evaluation.runner import WATCH_PERIOD_S
    from dfm_vla_ros.report.content import FilmEncoder

    encoder = FilmEncoder(1 / WATCH_PERIOD_S, ", ".join(CAMERAS))
    outcome = _outcome(job, encoder.add)
    return job[1], outcome, encoder.finish()


def _outcome(job: tuple[str, int], watch: Watch | None) -> EpisodeResult | str:
    try:
        return _loop.run(*job, watch)
    except DfmVlaError as error:
        return str(error)
