"""``dfm-vla collect``: expert demonstrations in the twin, into a LeRobot data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.options import positive_count, seed
from dfm_vla_ros.sim.perturbations import (
    add_modes,
    add_phrasing,
    add_variation,
    setting,
)

MILLIRADIAN = 1e-3
LARGEST_NOISE_MRAD = 1000.0


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``collect``."""
    parser = subparsers.add_parser("collect", help="record expert demonstrations in the twin")
    parser.add_argument("--task", required=True, help="place_block, place_veg, pot_lift or all")
    parser.add_argument("--episodes", type=positive_count, default=100, help="of each task")
    parser.add_argument("--seed", type=seed, default=0, help="of the first episode")
    parser.add_argument("--out", type=Path, required=True, help="data set; is continued")
    parser.add_argument("--workers", type=positive_count, default=2, help="processes")
    parser.add_argument("--noise-mrad", type=float, default=12.0, help="executed joint noise")
    parser.add_argument(
        "--storage",
        choices=("video", "image"),
        default="video",
        help="H.264 without loss, or PNG within parquet: larger, faster to read",
    )
    parser.add_argument(
        "--no-images", action="store_true", help="joints and poses of the objects only: fast"
    )
    add_variation(parser)
    add_phrasing(parser, "standard", "train")
    add_modes(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Collect what is missing; 0 if every episode succeeded."""
    from dfm_vla_ros.sim.collecting import collect
    from dfm_vla_ros.sim.tasks import TASKS, make_task

    if not 0 <= options.noise_mrad <= LARGEST_NOISE_MRAD:
        raise DfmVlaError(
            f"--noise-mrad is {options.noise_mrad}, give 0 .. {LARGEST_NOISE_MRAD:g}"
        )
    tasks = tuple(TASKS) if options.task == "all" else (make_task(options.task).name,)
    seeds = range(options.seed, options.seed + options.episodes)
    failures = collect(
        options.out,
        [(task, number) for task in tasks for number in seeds],
        options.workers,
        options.noise_mrad * MILLIRADIAN,
        options.storage,
        not options.no_images,
        setting(options),
        options.modes,
    )
    return 1 if failures else 0
