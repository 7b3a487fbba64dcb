"""``dfm-vla demo``: the whole graph on the twin, from a sentence to moving arms.

Starts the nodes as processes, resets the twin, sends the goal through the action, and prints how
each episode went. Exit status 0: every episode was run and at least one succeeded.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from dfm_vla_ros import signals
from dfm_vla_ros.options import (
    add_black_cameras,
    black_cameras,
    positive_count,
    positive_seconds,
    seed,
    versions,
)

if TYPE_CHECKING:
    from dfm_vla_ros.graph.demonstration import Outcome

BAG, FILM, SHEET = "bag", "demo.mp4", "contact_sheet.png"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``demo``."""
    parser = subparsers.add_parser(
        "demo",
        help="the whole graph on the twin",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", default="place_block", help="pot_lift, place_veg or place_block")
    parser.add_argument("--episodes", type=positive_count, default=1)
    parser.add_argument("--seed", type=seed, default=1_000_000, help="of the first episode")
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="film, sheet, bag, logs"
    )
    parser.add_argument("--checkpoint", type=Path, help="folder; default: the shipped one")
    parser.add_argument("--instruction", help="instead of the task's sentence")
    add_black_cameras(parser)
    parser.add_argument("--timeout", type=positive_seconds, default=30.0, help="[s] an episode")
    parser.add_argument("--no-record", action="store_true", help="no film, sheet and bag")
    parser.add_argument(
        "--record-episodes", type=positive_count, default=3, help="how many, from the first on"
    )
    parser.add_argument("--wall-clock", action="store_true", help="real time instead of /clock")
    parser.add_argument(
        "--real-time-factor",
        type=float,
        default=1.0,
        help="slower for a slow machine; /clock only",
    )
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo; the exit status is in the module's docstring."""
    from dfm_vla_ros.graph.demonstration import Demonstration, Settings
    from dfm_vla_ros.resources import resource_path

    signals.listen(signal.SIGTERM)
    checkpoint = options.checkpoint or resource_path("checkpoints/default")
    settings = Settings(
        task=options.task,
        checkpoint=checkpoint.resolve(),
        out=options.out,
        instruction=options.instruction,
        black_cameras=black_cameras(options),
        timeout_s=options.timeout,
        record_episodes=0 if options.no_record else min(options.record_episodes, options.episodes),
        wall_clock=options.wall_clock,
        real_time_factor=options.real_time_factor,
    )
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with Demonstration(settings) as demonstration:
        demonstration.wait_ready()
        print(f"ready after {time.monotonic() - began:.1f} s", flush=True)
        for number in range(options.seed, options.seed + options.episodes):
            outcomes.append(demonstration.episode(number, _progress))
            _print_outcome(outcomes, options.episodes)
    _summarise(options, outcomes, time.monotonic() - began, demonstration.checkpoint_hash)
    if settings.record_episodes:
        _develop(settings.out, [outcome.seed for outcome in outcomes])
    return 0 if any(outcome.success for outcome in outcomes) else 1


def _progress(elapsed_s: float, progress: float, message: str) -> None:
    """Show the running episode on a terminal."""
    if sys.stdout.isatty():
        print(f"\r{elapsed_s:5.1f} s  progress {progress:4.0%}  {message[:60]:60}", end="")


def _print_outcome(outcomes: list[Outcome], episodes: int) -> None:
    outcome = outcomes[-1]
    if sys.stdout.isatty():
        print("\r", end="")
    word = "success" if outcome.success else f"failure ({outcome.reason})"
    print(
        f"episode {len(outcomes)}/{episodes}  seed {outcome.seed}  {word}  "
        f"{outcome.duration_s:.1f} s  {outcome.chunks} chunks  "
        f"inference {1e3 * outcome.inference_s:.0f} ms",
        flush=True,
    )


def _summarise(
    options: argparse.Namespace, outcomes: list[Outcome], seconds: float, checkpoint: str
) -> None:
    """Print the success rate, and write it for machines."""
    from dfm_vla_ros.evaluation.statistics import wilson

    successes = sum(outcome.success for outcome in outcomes)
    errors = sum(outcome.is_error for outcome in outcomes)
    low, high = wilson(successes, len(outcomes))
    median_s = median(outcome.inference_s for outcome in outcomes)
    print(
        f"{options.task}: {successes}/{len(outcomes)} = {successes / len(outcomes):.0%} "
        f"[{low:.0%}, {high:.0%}]  inference {1e3 * median_s:.0f} ms  {seconds:.0f} s in all"
    )
    if options.json is None:
        return
    content: dict[str, Any] = {
        "task": options.task,
        "episodes": len(outcomes),
        "successes": successes,
        "failures": len(outcomes) - successes - errors,
        "errors": errors,
        "interval": [low, high],
        "seconds": seconds,
        "checkpoint": checkpoint,
        "seed": options.seed,
        "versions": versions(),
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _develop(out: Path, seeds: list[int]) -> None:
    """Make film and contact sheet of the bag."""
    from dfm_vla_ros.bags.film import read_images_of, write_contact_sheet, write_film

    recording = read_images_of(out / BAG)
    episodes = recording.episodes(seeds)
    write_film(episodes, out / FILM, 1 / recording.period_s)
    write_contact_sheet(episodes, out / SHEET)
    worst = min(recording.shares().values())
    print(f"recorded {out / FILM}, {out / SHEET} and {out / BAG} ({worst:.1%} of the images)")
