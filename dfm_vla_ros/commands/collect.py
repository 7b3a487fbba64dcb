"""``dfm-vla collect``: expert demonstrations in the twin, one file an episode."""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dfm_vla_ros.workers import run_parallel

if TYPE_CHECKING:
    from dfm_vla_ros.sim.twin import Twin

MILLIRADIAN = 1e-3

Job = tuple[str, int, Path, float]
"""Task, seed, folder, noise [rad]."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``collect``."""
    parser = subparsers.add_parser("collect", help="record expert demonstrations in the twin")
    parser.add_argument("--task", required=True, help="place_block, place_veg or pot_lift")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first episode")
    parser.add_argument("--out", type=Path, required=True, help="folder; whole files are kept")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--noise-mrad", type=float, default=12.0, help="executed joint noise")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Collect what is missing; 0 if every episode succeeded."""
    from dfm_vla_ros.data.episodes import episode_path
    from dfm_vla_ros.sim.tasks import make_task

    make_task(options.task)
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seed, options.seed + options.episodes)
    missing = [s for s in seeds if not episode_path(options.out, options.task, s).exists()]
    print(f"{options.task}: {len(seeds) - len(missing)} present, {len(missing)} to collect")
    jobs = [
        (options.task, seed, options.out, options.noise_mrad * MILLIRADIAN) for seed in missing
    ]
    started = time.monotonic()
    failures = _collect(jobs, options.workers)
    for failure in failures:
        print(f"failed, not kept: {failure}")
    seconds = time.monotonic() - started
    print(
        f"{options.task}: {len(missing) - len(failures)}/{len(missing)} demonstrations in "
        f"{seconds:.0f} s ({seconds / max(len(missing), 1):.2f} s each) in {options.out}"
    )
    return 1 if failures else 0


def _collect(jobs: list[Job], workers: int) -> list[str]:
    """Record every job in ``workers`` processes; return what failed."""
    failures = []
    for done, failure in enumerate(run_parallel(record, jobs, workers), start=1):
        if failure:
            failures.append(failure)
        if done % 50 == 0 or done == len(jobs):
            print(f"  {done}/{len(jobs)}, {len(failures)} failed", flush=True)
    return failures


def record(job: Job) -> str | None:
    """Record and keep one demonstration; return why it failed, or None."""
    from dfm_vla_ros.data.episodes import episode_path, save_episode
    from dfm_vla_ros.sim.demonstrate import demonstrate
    from dfm_vla_ros.sim.errors import OutOfReach

    task, seed, folder, noise_rad = job
    try:
        episode = demonstrate(_worker_twin(), task, seed, noise_rad)
    except OutOfReach as error:
        return f"seed {seed}: {error}"
    if not episode.success:
        return f"seed {seed}: the task was not done"
    save_episode(episode, episode_path(folder, task, seed))
    return None


@functools.cache
def _worker_twin() -> Twin:
    """Return this process's twin, built at the first call."""
    from dfm_vla_ros.sim.twin import Twin

    return Twin()
