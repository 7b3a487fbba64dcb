"""What several subcommands share: checked numbers, black cameras, versions."""

from __future__ import annotations

import argparse
import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dfm_vla_ros import __version__
from dfm_vla_ros.robot.joints import CAMERAS

LIBRARIES = ("mujoco", "numpy", "scipy", "torch", "transformers")


def positive_count(text: str) -> int:
    """Return a whole number of at least 1, for ``type=`` of an argument."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def seed(text: str) -> int:
    """Return a whole number from 0 to 2**62."""
    value = int(text)
    if not 0 <= value <= 2**62:
        raise argparse.ArgumentTypeError(f"{value} is not within 0 .. 2**62")
    return value


def positive_seconds(text: str) -> float:
    """Return a duration above 0 and at most a day [s]."""
    value = float(text)
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{value} is not above 0 and at most 86400 s")
    return value


def add_black_cameras(parser: argparse.ArgumentParser) -> None:
    """Add ``--black-cameras``; read it with ``black_cameras``."""
    parser.add_argument(
        "--black-cameras",
        nargs="*",
        choices=CAMERAS,
        metavar="CAMERA",
        help=f"show these black, of {', '.join(CAMERAS)}; without names all",
    )


def black_cameras(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the cameras to black out: none, those named, or all."""
    given = options.black_cameras
    return () if given is None else tuple(given) or CAMERAS


def versions() -> dict[str, str]:
    """Return the versions that decide a result."""
    found = {"dfm_vla_ros": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, str | int]:
    """Return the processor's name and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
        name = names[0] if names else name
    affinity = getattr(os, "sched_getaffinity", None)
    return {"processor": name, "cores": len(affinity(0)) if affinity else os.cpu_count() or 1}
