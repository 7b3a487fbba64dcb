"""``dfm-vla bench convert``: how long a bag takes to become a data set, and what memory."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.options import positive_count, positive_seconds


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``bench convert``."""
    parser = subparsers.add_parser(
        "convert",
        help="a synthetic bag into a data set",
        description="Writes a bag with three cameras and joints at a robot's rates, converts it "
        "in a process of its own, and prints time and peak memory.",
    )
    parser.add_argument("--seconds", type=positive_seconds, default=600.0, help="of the bag")
    parser.add_argument(
        "--episode", type=positive_seconds, default=30.0, help="[s] of each goal; 600: one"
    )
    parser.add_argument("--image-rate", type=positive_seconds, default=20.0, help="[Hz]")
    parser.add_argument("--joint-rate", type=positive_seconds, default=100.0, help="[Hz]")
    parser.add_argument("--side", type=positive_count, default=96, help="[px] of an image")
    parser.add_argument("--noise", type=int, default=8, help="grey levels of a pixel")
    parser.add_argument("--storage", choices=("video", "image"), default="video")
    parser.add_argument("--folder", type=Path, help="for bag and data set; default: temporary")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the bag, convert it, print the figures."""
    from dfm_vla_ros.bags.synthetic import Run, write_messages

    made = Run(
        options.seconds,
        options.episode,
        options.image_rate,
        options.joint_rate,
        options.side,
        noise=options.noise,
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        bag = write_messages(Path(folder) / "bag", made.messages())
        size = sum(file.stat().st_size for file in bag.iterdir())
        print(
            f"bag of {options.seconds:.0f} s, {size / 1e6:.0f} MB, three cameras of "
            f"{options.side}x{options.side} at {options.image_rate:g} Hz, joints at "
            f"{options.joint_rate:g} Hz",
            flush=True,
        )
        began = time.monotonic()
        words = ["convert", str(bag), "--out", f"{folder}/data", "--storage", options.storage]
        done = subprocess.run(
            [sys.executable, "-m", "dfm_vla_ros.cli", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - began
        if done.returncode:
            raise DfmVlaError(f"convert ended with status {done.returncode}: {done.stderr}")
        print("\n".join(done.stdout.splitlines()[-3:]))
        peak = re.search(r"peak memory (\d+) MB", done.stdout)
        written = sum(f.stat().st_size for f in Path(folder, "data").rglob("*") if f.is_file())
    print(
        f"{seconds:.1f} s in all = {options.seconds / seconds:.1f} x real time, peak memory "
        f"{peak.group(1) if peak else '?'} MB, data set {written / 1e6:.0f} MB"
    )
    return 0
