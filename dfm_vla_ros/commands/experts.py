"""``dfm-vla experts``: how often the scripted experts succeed; optionally a picture of them."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.sim.perturbations import add_modes, add_phrasing, add_variation, setting

if TYPE_CHECKING:
    from dfm_vla_ros.sim.twin import Twin

SHEET_COLUMNS = 6


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``experts``."""
    parser = subparsers.add_parser("experts", help="run the scripted experts in the twin")
    parser.add_argument("--task", help="one task; all by default")
    parser.add_argument("--episodes", type=int, default=100, help="layouts of each task")
    parser.add_argument("--seed", type=int, default=1_000_000, help="seed of the first layout")
    parser.add_argument("--noise-mrad", type=float, default=0.0, help="executed joint noise")
    add_variation(parser)
    add_phrasing(parser)
    add_modes(parser)
    parser.add_argument("--sheet", type=Path, help="write a PNG of one episode a task instead")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print successes of each task; 0 only if every episode succeeded."""
    from dfm_vla_ros.sim.tasks import TASKS, make_task
    from dfm_vla_ros.sim.twin import Twin

    tasks = [make_task(options.task).name] if options.task else list(TASKS)
    twin = Twin((192, 192) if options.sheet else (96, 96), setting(options))
    if options.sheet:
        return _draw_sheet(twin, tasks, options)
    results = [_run_task(twin, task, options) for task in tasks]
    return 0 if all(results) else 1


def _run_task(twin: Twin, task: str, options: argparse.Namespace) -> bool:
    """Run one task's expert on every layout; return whether all succeeded."""
    from dfm_vla_ros.errors import OutOfReach
    from dfm_vla_ros.sim.demonstrate import demonstrate
    from dfm_vla_ros.sim.variation import demonstrator

    started, done, styles = time.monotonic(), 0, Counter[str]()
    expert = demonstrator(options.modes)
    for seed in range(options.seed, options.seed + options.episodes):
        reason = "the task was not done"
        try:
            noise_rad = options.noise_mrad * 1e-3
            episode = demonstrate(twin, task, seed, noise_rad, False, expert)
            success = episode.success
            styles[episode.style or "plain"] += 1
        except OutOfReach as error:
            success, reason = False, str(error)
        done += success
        if not success:
            print(f"  {task} seed {seed}: {reason}")
    seconds = (time.monotonic() - started) / max(options.episodes, 1)
    print(f"{task}: {done}/{options.episodes} ({seconds:.2f} s an episode)", flush=True)
    if len(styles) > 1:
        print("  " + ", ".join(f"{style}: {count}" for style, count in styles.most_common()))
    return done == options.episodes


def _draw_sheet(twin: Twin, tasks: list[str], options: argparse.Namespace) -> int:
    """Write a row of third views above a row of wrist views for each task."""
    import cv2

    from dfm_vla_ros.sim.demonstrate import demonstrate
    from dfm_vla_ros.sim.variation import demonstrator

    rows, expert = [], demonstrator(options.modes)
    for task in tasks:
        noise_rad = options.noise_mrad * 1e-3
        episode = demonstrate(twin, task, options.seed, noise_rad, demonstrator=expert)
        frames = np.linspace(0, len(episode) - 1, SHEET_COLUMNS).round().astype(int)
        # The wrist camera of the arm that moves more.
        travel = np.abs(np.diff(episode.targets, axis=0)).sum(axis=0)
        wrist = "left_wrist" if travel[:7].sum() >= travel[7:].sum() else "right_wrist"
        rows += [np.concatenate(episode.images[view][frames], 1) for view in ("third", wrist)]
    options.sheet.parent.mkdir(parents=True, exist_ok=True)
    picture = np.concatenate(rows)[..., ::-1]
    if not cv2.imwrite(str(options.sheet), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise DfmVlaError(f"{options.sheet} cannot be written; name a .png in a folder of yours")
    print(f"{options.sheet}: {', '.join(tasks)}, seed {options.seed}")
    return 0
