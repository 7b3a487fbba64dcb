"""``dfm-vla bench twin``: how much faster than real time the twin runs."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfm_vla_ros.sim.twin import Twin

CAMERA_RATE_HZ = 20


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``bench twin``."""
    parser = subparsers.add_parser("twin", help="real-time factor of the twin")
    parser.add_argument("--seconds", type=float, default=20.0, help="simulated time of each run")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 96), metavar=("W", "H"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print real-time factors; 0 if the twin with cameras keeps up with real time."""
    from dfm_vla_ros.robot.joints import CAMERAS
    from dfm_vla_ros.sim.tasks import TASKS
    from dfm_vla_ros.sim.twin import Twin

    twin = Twin(tuple(options.size))
    size = "x".join(map(str, options.size))
    started = time.monotonic()
    twin.render()
    print(f"first image: {1e3 * (time.monotonic() - started):.0f} ms")
    keeps_up = True
    for task in TASKS:
        bare = _factor(twin, task, options.seconds, images=False)
        seen = _factor(twin, task, options.seconds, images=True)
        keeps_up &= seen >= 1.0
        print(
            f"{task}: {bare:.1f}x real time without cameras, {seen:.1f}x with {len(CAMERAS)} "
            f"cameras of {size} at {CAMERA_RATE_HZ} Hz"
        )
    return 0 if keeps_up else 1


def _factor(twin: Twin, task: str, seconds: float, images: bool) -> float:
    """Return simulated over wall seconds while the expert moves the arms."""
    from dfm_vla_ros.sim.experts import CONTROL_PERIOD_S, expert_targets

    twin.reset(task, 0)
    targets = expert_targets(task, twin)
    per_target = round(CONTROL_PERIOD_S / twin.timestep_s)
    per_image = round(1 / CAMERA_RATE_HZ / twin.timestep_s)
    steps = round(seconds / twin.timestep_s)
    started = time.monotonic()
    for i in range(steps):
        twin.command(targets[min(i // per_target, len(targets) - 1)])
        twin.step()
        if images and i % per_image == 0:
            twin.render()
    return seconds / (time.monotonic() - started)
