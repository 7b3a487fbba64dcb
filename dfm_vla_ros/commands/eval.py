"""``dfm-vla eval``: success of a checkpoint in the twin, without ROS."""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.workers import run_parallel

if TYPE_CHECKING:
    from dfm_vla_ros.evaluation.runner import EpisodeResult


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``eval``."""
    parser = subparsers.add_parser("eval", help="success rate of a checkpoint in the twin")
    parser.add_argument("--checkpoint", type=Path, help="folder; default: the shipped one")
    parser.add_argument("--task", default="place_block", help="a task, or all it was trained on")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1_000_000, help="seed of the first episode")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--latency", type=float, default=0.1, help="simulated inference time [s]")
    parser.add_argument("--timeout", type=float, default=20.0, help="of an episode [s]")
    parser.add_argument("--steps", type=int, help="refinement steps instead of the checkpoint's")
    parser.add_argument("--validation", type=int, help="validation steps, likewise")
    parser.add_argument("--black-cameras", nargs="*", default=[], metavar="CAMERA")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the episodes, print a line for each and a table at the end."""
    from dfm_vla_ros.model.checkpoint import Checkpoint, folder_hash
    from dfm_vla_ros.resources import resource_path

    options.checkpoint = options.checkpoint or resource_path("checkpoints/default")
    known = list(Checkpoint.load(options.checkpoint).config.tasks)
    tasks = known if options.task == "all" else [options.task]
    rows = [_run_task(options, task) for task in tasks]
    if options.json:
        content = {
            "tasks": rows,
            "checkpoint": folder_hash(options.checkpoint),
            "decoder": {"refinement_steps": options.steps, "validation_steps": options.validation},
            "seed": options.seed,
            "versions": _versions(),
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0 if not any(row["errors"] for row in rows) else 1


def _run_task(options: argparse.Namespace, task: str) -> dict[str, Any]:
    from dfm_vla_ros.evaluation.statistics import wilson

    began, results = time.monotonic(), []
    jobs = [(task, seed) for seed in range(options.seed, options.seed + options.episodes)]
    workers = max(1, min(options.workers, options.episodes))
    for result in run_parallel(_episode, jobs, workers, _start, (options,)):
        results.append(result)
        outcome = "success" if result.success else f"failure at {result.progress:.2f}"
        print(
            f"{task} seed {result.seed}: {outcome}, {result.seconds:.1f} s, "
            f"{result.chunks} chunks, {result.refused} refused, "
            f"inference {1e3 * result.inference_s:.0f} ms",
            flush=True,
        )
    successes = sum(result.success for result in results)
    low, high = wilson(successes, len(results))
    rate = successes / len(results)
    print(f"{task}: {successes}/{len(results)} = {rate:.0%} [{low:.0%}, {high:.0%}]")
    return {
        "task": task,
        "episodes": len(results),
        "successes": successes,
        "failures": len(results) - successes,
        "errors": options.episodes - len(results),
        "interval": [low, high],
        "seconds": time.monotonic() - began,
        "results": [asdict(r) for r in sorted(results, key=lambda r: r.seed)],
    }


_loop: Any = None


def _start(options: argparse.Namespace) -> None:
    """Load policy and twin once in each process."""
    global _loop
    from dfm_vla_ros.evaluation.runner import Loop, LoopConfig
    from dfm_vla_ros.policy.policy import Policy
    from dfm_vla_ros.robot.description import robot_description
    from dfm_vla_ros.robot.limits import JointLimits
    from dfm_vla_ros.sim.twin import Twin

    policy = Policy.load(
        options.checkpoint, refinement_steps=options.steps, validation_steps=options.validation
    )
    twin = Twin(camera_size=(policy.image_size, policy.image_size))
    twin.dark_cameras = tuple(options.black_cameras)
    limits = JointLimits.from_urdf(robot_description())
    config = LoopConfig(policy.execute_steps, options.latency, options.timeout)
    _loop = Loop(twin, policy.act, policy.tokenizer, limits, config)


def _episode(job: tuple[str, int]) -> EpisodeResult:
    return _loop.run(*job)


def _versions() -> dict[str, str]:
    import mujoco
    import torch
    import transformers

    from dfm_vla_ros import __version__

    return {
        "dfm_vla_ros": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "mujoco": mujoco.__version__,
    }
