"""Arguments of the commands that run the loop: how chunks join, latency, speed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from dfm_vla_ros.policy.types import MODE, MODES, WARM_START

if TYPE_CHECKING:
    from dfm_vla_ros.evaluation.runner import LoopConfig

LONGEST_LATENCY_S = 60.0


def latency(text: str) -> float:
    """Return a duration from 0 to a minute [s]."""
    value = float(text)
    if not 0 <= value <= LONGEST_LATENCY_S:
        raise argparse.ArgumentTypeError(f"{value} is not within 0 .. {LONGEST_LATENCY_S} s")
    return value


def start_time(text: str) -> float:
    """Return a time t0 from 0, noise, to below 1, the running chunk."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 0 (noise) and below 1")
    return value


def share(text: str) -> float:
    """Return a share of full speed, above 0 and at most 1."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0 and at most 1")
    return value


def add_warm_start(parser: argparse.ArgumentParser) -> None:
    """Add ``--warm-start``."""
    parser.add_argument(
        "--warm-start",
        type=start_time,
        default=WARM_START,
        metavar="T0",
        help="rtc: re-noise the running chunk to this time in [0, 1); 0: start from noise",
    )


def add_joining(parser: argparse.ArgumentParser) -> None:
    """Add ``--mode``, ``--latency``, ``--warm-start`` and ``--speed``."""
    parser.add_argument("--mode", choices=MODES, default=MODE, help="how chunks join")
    parser.add_argument(
        "--latency",
        type=latency,
        default=0.1,
        metavar="S",
        help="simulated time from an observation to its chunk [s]",
    )
    add_warm_start(parser)
    parser.add_argument("--speed", type=share, default=1.0, help="slow mode, (0, 1]")


def loop_config(options: argparse.Namespace) -> LoopConfig:
    """Return what ``add_joining``'s arguments and ``--timeout`` say."""
    from dfm_vla_ros.evaluation.runner import LoopConfig
    from dfm_vla_ros.robot.chunks import JoinMode

    return LoopConfig(
        latency_s=options.latency,
        timeout_s=options.timeout,
        mode=JoinMode[options.mode.upper()],
        warm_start_t0=options.warm_start or None,
        speed=options.speed,
    )
