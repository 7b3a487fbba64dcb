"""``dfm-vla bench latency``: what the graph adds to the network's own time.

Runs twin, policy and executor on real time with three 96x96 cameras at 20 Hz, without recording.
The overhead of a chunk is the time from the stamp of its newest image (taken before it is
rendered) to the moment when both trajectories are published, less the policy call.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfm_vla_ros.graph.measurement import Latency

MEDIAN_MS, P99_MS = 10.0, 30.0
"""Targets."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``latency``."""
    parser = subparsers.add_parser(
        "latency",
        help="overhead from image to trajectory, beside the policy's own time",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--task", default="place_block")
    parser.add_argument("--checkpoint", type=Path, help="folder; default: the shipped one")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print; exit status 0 when both targets are met."""
    from dfm_vla_ros.graph.demonstration import Demonstration, Settings
    from dfm_vla_ros.graph.measurement import measure
    from dfm_vla_ros.resources import resource_path

    checkpoint = options.checkpoint or resource_path("checkpoints/default")
    with tempfile.TemporaryDirectory(prefix="dfm_vla_latency_") as folder:
        settings = Settings(options.task, checkpoint.resolve(), Path(folder), wall_clock=True)
        with Demonstration(settings) as demonstration:
            demonstration.wait_ready()
            found = measure(demonstration.client, options.task, options.seconds)
    content = _print(found)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if content["median_ms"] <= MEDIAN_MS and content["p99_ms"] <= P99_MS else 1


def _print(found: Latency) -> dict[str, Any]:
    """Print the figures and return them for machines."""
    content = {
        "chunks": found.count,
        "median_ms": 1e3 * found.overhead_s(50),
        "p99_ms": 1e3 * found.overhead_s(99),
        "image_median_ms": 1e3 * found.image_s(50),
        "executor_median_ms": 1e3 * found.executor_s(50),
        "inference_median_ms": 1e3 * found.inference_s(50),
        "real_time_factor": found.real_time_factor,
        "refused": found.refused,
    }
    print(
        f"{content['chunks']} chunks: overhead median {content['median_ms']:.1f} ms "
        f"(target {MEDIAN_MS:.0f}), 99th percentile {content['p99_ms']:.1f} ms "
        f"(target {P99_MS:.0f}), of it {content['image_median_ms']:.1f} ms until the image is "
        f"rendered and received, {content['executor_median_ms']:.1f} ms in the executor; "
        f"policy call median {content['inference_median_ms']:.0f} ms; "
        f"twin at {content['real_time_factor']:.3f} x real time; {found.refused} refused"
    )
    return content
