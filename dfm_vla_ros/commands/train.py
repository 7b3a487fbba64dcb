"""``dfm-vla train``: data sets to checkpoints."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.options import positive_count

if TYPE_CHECKING:
    from dfm_vla_ros.training.config import EvaluationConfig, TrainConfig
    from dfm_vla_ros.training.run_folder import Evaluate


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``train``."""
    parser = subparsers.add_parser(
        "train",
        help="train a policy on demonstrations",
        description="Train a policy. A run that was stopped, however, goes on where it last saved "
        "its state when the same command is given again.",
    )
    parser.add_argument("--config", type=Path, help="YAML file (config/train/)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. steps=500")
    parser.add_argument("--help-config", action="store_true", help="print all keys and end")
    parser.add_argument("--print-config", action="store_true", help="print the values and end")
    parser.add_argument(
        "--overwrite", action="store_true", help="delete the run that is in out, begin anew"
    )
    parser.add_argument(
        "--processes",
        type=positive_count,
        default=1,
        help="on this machine, one a GPU or on the CPU; on several machines use accelerate launch",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, and say where the checkpoints are."""
    from dfm_vla_ros.schema import describe
    from dfm_vla_ros.training.config import TrainConfig, as_yaml, load_config

    if options.help_config:
        print(describe(TrainConfig))
        return 0
    if options.config is None:
        raise DfmVlaError("--config is missing: name a file such as config/train/three_tasks.yaml")
    config = load_config(options.config, options.overrides)
    if options.print_config:
        print(as_yaml(config), end="")
        return 0
    if options.processes > 1 and "LOCAL_RANK" not in os.environ:
        _launch(options.processes)
    from dfm_vla_ros.training.loop import train

    evaluate = make_evaluate(config.evaluation) if config.evaluation.every else None
    print(f"checkpoint: {train(config, evaluate, options.overwrite)}")
    return _report(config)


def _report(config: TrainConfig) -> int:
    """Say whether the run is at its end; 130, as for an interrupt, if it is not."""
    from dfm_vla_ros.training.run_folder import RunFolder, load_progress

    progress = load_progress(RunFolder(config.out).last)
    if progress.step == config.steps or 0 < config.max_seconds <= progress.seconds:
        return 0
    print(
        f"stopped at step {progress.step} of {config.steps}; the same command goes on from there"
    )
    return 130


def _launch(processes: int) -> None:
    """Become torch's launcher of ``processes`` of this very command; does not return."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    os.execv(sys.executable, [sys.executable, *launcher, "-m", "dfm_vla_ros.cli", *sys.argv[1:]])


def make_evaluate(config: EvaluationConfig) -> Evaluate:
    """Return what runs episodes of a checkpoint in the twin, in processes of their own."""

    def evaluate(checkpoint: Path, step: int) -> dict[str, float]:
        from dfm_vla_ros.model.loading import load_checkpoint
        from dfm_vla_ros.workers import run_parallel

        tasks = list(load_checkpoint(checkpoint).config.tasks)
        seeds = range(config.seed, config.seed + config.episodes)
        jobs = [(task, seed) for task in tasks for seed in seeds]
        done: dict[str, list[bool]] = {task: [] for task in tasks}
        errors = 0
        for task, success in run_parallel(
            _episode, jobs, config.workers, _start, (checkpoint, config.timeout_s)
        ):
            done[task].append(success is True)
            errors += success is None
        figures = {f"success_{task}": sum(done[task]) / config.episodes for task in tasks}
        mean = sum(figures.values()) / len(figures)
        return {"success": mean, **figures, "evaluation_errors": float(errors)}

    return evaluate


_loop: Any = None


def _start(checkpoint: Path, timeout_s: float) -> None:
    """Load policy and twin once in each process."""
    global _loop
    from dfm_vla_ros.evaluation.runner import LoopConfig, load_loop

    _loop = load_loop(checkpoint, LoopConfig(timeout_s=timeout_s))


def _episode(job: tuple[str, int]) -> tuple[str, bool | None]:
    """Return the task and whether it was done; None if the policy could not act."""
    try:
        return job[0], _loop.run(*job).success
    except DfmVlaError:
        return job[0], None
