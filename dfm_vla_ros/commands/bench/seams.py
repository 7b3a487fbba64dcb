"""``dfm-vla bench seams``: how chunks join in each mode, by the motion that is commanded.

First scripted chunks that contradict one another by 0.01 rad, then episodes of a checkpoint in the
twin with an added latency. A seam is where a chunk takes over; a pause is every joint below
1e-3 rad/s for more than 20 ms while a chunk is expected; starved is time without any chunk's
motion: where a pause is longer, the chunks asked for it. Of the acceleration's steps the median is
given, of the others the largest. Exit status 0: no seam has a step of position or velocity, and
rtc is never starved while the latency is shorter than the chunk.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.evaluation.options import add_warm_start, latency
from dfm_vla_ros.options import positive_count, positive_seconds, seed, versions
from dfm_vla_ros.policy.types import MODES
from dfm_vla_ros.workers import run_parallel

if TYPE_CHECKING:
    from dfm_vla_ros.evaluation.runner import EpisodeResult
    from dfm_vla_ros.tokens.action import ActionTokenizer

LATENCIES_S = (0.0, 0.2, 0.5, 1.0)
COLUMNS = (
    ("position", "step rad", "seam_position_step_rad", "9.1e"),
    ("velocity", "st. rad/s", "seam_velocity_step_rad_s", "9.1e"),
    ("acceler.", "rad/s^2", "seam_acceleration_step_rad_s2", "8.2f"),
    ("longest", "pause s", "longest_pause_s", "8.3f"),
    ("pauses,", "sum s", "pause_s", "8.2f"),
    ("starved,", "sum s", "starved_s", "8.2f"),
    ("speed", "scale", "speed_scale", "6.2f"),
)
"""First and second line of the header, figure, format."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``seams``."""
    parser = subparsers.add_parser(
        "seams",
        help="steps and pauses of the commanded motion where chunks join",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", type=Path, help="folder; default: the shipped one")
    parser.add_argument("--task", default="place_block")
    parser.add_argument("--episodes", type=positive_count, default=3, help="of each row")
    parser.add_argument("--seed", type=seed, default=1_000_000, help="of the first episode")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), metavar="MODE")
    parser.add_argument(
        "--latency", nargs="+", type=latency, default=list(LATENCIES_S), metavar="S"
    )
    parser.add_argument("--timeout", type=positive_seconds, default=20.0, help="[s] an episode")
    parser.add_argument("--workers", type=positive_count, default=2)
    add_warm_start(parser)
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print a table; 0 if the requirements hold."""
    from dfm_vla_ros.resources import resource_path
    from dfm_vla_ros.tokens.action import ActionTokenizer

    options.checkpoint = options.checkpoint or resource_path("checkpoints/default")
    tokenizer = ActionTokenizer.load(options.checkpoint)
    _print_header()
    cases = _cases(options, tokenizer)
    episodes = _episodes(options, tokenizer.horizon * tokenizer.control_period_s)
    if options.json is not None:
        content = {"cases": cases, "episodes": episodes, "versions": versions()}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    failed = [row["name"] for row in cases + episodes if not row["holds"]]
    for name in failed:
        print(f"does not hold: {name}")
    return 1 if failed else 0


def _cases(options: argparse.Namespace, tokenizer: ActionTokenizer) -> list[dict[str, Any]]:
    """Play the scripted cases in each mode."""
    from dfm_vla_ros.evaluation.seams import CASES, Case, smooth, worst
    from dfm_vla_ros.robot.chunks import JoinMode
    from dfm_vla_ros.robot.model import RobotModel
    from dfm_vla_ros.sim.experts import expert_targets
    from dfm_vla_ros.sim.twin import Twin

    twin = Twin()
    twin.reset(options.task, options.seed)
    targets = expert_targets(options.task, twin)
    limits = RobotModel().limits()
    rows = []
    for name, looks_s in CASES.items():
        for mode in options.modes:
            case = Case(tokenizer, limits, targets, JoinMode[mode.upper()])
            figures = worst([case.play(looks_s)])
            rows.append({"name": f"{name}, {mode}", **figures, "holds": smooth(figures)})
            _print(rows[-1])
    return rows


def _episodes(options: argparse.Namespace, chunk_s: float) -> list[dict[str, Any]]:
    """Run the checkpoint's episodes, a row for each mode and latency."""
    cells = [(mode, seconds) for mode in options.modes for seconds in options.latency]
    numbers = range(options.seed, options.seed + options.episodes)
    jobs = [(*cell, options.task, number) for cell in cells for number in numbers]
    workers = min(options.workers, len(jobs))
    found: dict[tuple[str, float], list[EpisodeResult]] = {cell: [] for cell in cells}
    for cell, result in run_parallel(_episode, jobs, workers, _start, (options,)):
        found[cell].append(result)
        if len(found[cell]) == options.episodes:
            _print(_row(*cell, found[cell], chunk_s))
    return [_row(*cell, results, chunk_s) for cell, results in found.items()]


def _row(
    mode: str, latency_s: float, results: list[EpisodeResult], chunk_s: float
) -> dict[str, Any]:
    """Return the figures of one mode and latency; ``chunk_s`` is how long a chunk is."""
    from dfm_vla_ros.evaluation.seams import smooth, worst

    figures = worst([result.motion for result in results])
    fed = figures["starved_s"] == 0
    return {
        "name": f"latency {latency_s:.1f} s, {mode}",
        "mode": mode,
        "latency_s": latency_s,
        "episodes": len(results),
        "successes": sum(result.success for result in results),
        "chunks": sum(result.chunks for result in results),
        "refused": sum(result.refused for result in results),
        **figures,
        "holds": smooth(figures) and (fed or mode != "rtc" or latency_s >= chunk_s),
    }


def _print_header() -> None:
    for line in (0, 1):
        cells = [f"{column[line]:>{column[3].partition('.')[0]}}" for column in COLUMNS]
        print(f"{'':34}", *cells, " success" if line else "", flush=True)


def _print(row: dict[str, Any]) -> None:
    cells = [f"{row[figure]:{style}}" for _, _, figure, style in COLUMNS]
    success = f" {row['successes']}/{row['episodes']}" if "episodes" in row else ""
    print(f"{row['name']:34}", *cells, success, flush=True)


_loop: Any = None


def _start(options: argparse.Namespace) -> None:
    """Load policy and twin once in each process."""
    global _loop
    from dfm_vla_ros.evaluation.runner import LoopConfig, load_loop

    config = LoopConfig(timeout_s=options.timeout, warm_start_t0=options.warm_start or None)
    _loop = load_loop(options.checkpoint, config)


def _episode(job: tuple[str, float, str, int]) -> tuple[tuple[str, float], EpisodeResult]:
    """Return mode and latency, and how the episode went."""
    from dfm_vla_ros.robot.chunks import JoinMode

    mode, latency_s, task, number = job
    _loop.config = replace(_loop.config, mode=JoinMode[mode.upper()], latency_s=latency_s)
    return (mode, latency_s), _loop.run(task, number)
