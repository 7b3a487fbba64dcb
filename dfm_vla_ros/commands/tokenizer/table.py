"""``dfm-vla tokenizer table``: what each kind of action tokenizer costs on demonstrations."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dfm_vla_ros.errors import DfmVlaError

if TYPE_CHECKING:
    from dfm_vla_ros.evaluation.tokenizers import Errors, TokenizerRow

NOISE_RAD = 0.012
FIRST_SEED = 2_000_000
MINIMUM_EPISODES = 5
LABEL = 20
GROUP = 23


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``table``."""
    parser = subparsers.add_parser(
        "table", help="round-trip error, tokens a chunk, error after one wrong token"
    )
    parser.add_argument("--data", type=Path, help="folder that collect made; none: make a few")
    parser.add_argument("--horizon", type=int, default=8, help="steps of a chunk")
    parser.add_argument("--episodes", type=int, default=0, help="of each task; 0: all, or 10")
    parser.add_argument("--seed", type=int, default=0, help="of the replaced tokens")
    parser.add_argument("--tasks", action="store_true", help="also a row for each task")
    parser.add_argument("--workers", type=int, default=2, help="processes, without --data")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all rows here")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    from dfm_vla_ros.evaluation.tokenizers import load_chunks, table

    if options.horizon < 1 or options.workers < 1:
        raise DfmVlaError("--horizon and --workers must be at least 1")
    if options.episodes and options.episodes < MINIMUM_EPISODES:
        raise DfmVlaError(f"--episodes is {options.episodes}, give at least {MINIMUM_EPISODES}")
    with demonstrations(options) as folder:
        chunks = load_chunks(folder, options.horizon, options.episodes)
    print("\n".join(heading(options.horizon)))
    rows = []
    for row in table(chunks, options.seed):
        rows.append(row)
        if row.task == "all" or options.tasks:
            print(line(row), flush=True)
    if options.json is not None:
        content = {"horizon": options.horizon, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


@contextmanager
def demonstrations(options: argparse.Namespace) -> Iterator[Path]:
    """Give the folder of the data; without one, of a few that are made now."""
    if options.data is not None:
        yield options.data
        return
    with tempfile.TemporaryDirectory() as folder:
        collect_few(Path(folder), options.episodes or 2 * MINIMUM_EPISODES, options.workers)
        yield Path(folder)


def collect_few(folder: Path, episodes: int, workers: int) -> None:
    """Record ``episodes`` demonstrations of each task in a data set."""
    from dfm_vla_ros.sim.collecting import collect
    from dfm_vla_ros.sim.tasks import TASKS

    seeds = range(FIRST_SEED, FIRST_SEED + episodes)
    collect(folder, [(task, seed) for task in TASKS for seed in seeds], workers, NOISE_RAD)


def heading(horizon: int) -> Iterator[str]:
    """Yield the lines above the rows."""
    yield f"chunks of {horizon} steps; fitted on 4 of 5 episodes, measured on the others"
    yield "median / 99th percentile / largest; replaced: of the worst target in each chunk"
    groups = ("arms mrad", "grippers mm", "replaced: arms mrad", "replaced: grippers mm")
    titles = "".join(f"{group:>{GROUP}}" for group in groups)
    yield f"{'':{LABEL}}{'K':>6}{'N':>5}{'used':>7}{titles}{'moved':>7}{'found':>7}"


def line(row: TokenizerRow) -> str:
    """Return a row: label, K, N, tokens used, errors, targets moved, damage found."""
    label = row.label if row.task == "all" else f"  {row.task}"
    measured = row.measurement
    if measured is None:
        return f"{label:{LABEL}}not possible: {row.problem}"
    groups = (
        measured.arms_rad,
        measured.grippers_m,
        measured.replaced_arms_rad,
        measured.replaced_grippers_m,
    )
    sizes = f"{row.vocabulary_size:>6}{row.token_count:>5}{measured.tokens:>7.1f}"
    errors = "".join(f"{_milli(group):>{GROUP}}" for group in groups)
    shares = f"{100 * measured.moved:>6.1f}%{100 * measured.malformed:>6.1f}%"
    return f"{label:{LABEL}}{sizes}{errors}{shares}"


def _milli(errors: Errors) -> str:
    milli = [1e3 * value for value in asdict(errors).values()]
    return " / ".join(f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in milli)
