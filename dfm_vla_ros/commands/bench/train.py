"""``dfm-vla bench train``: samples a second by size of the network, and the wait for data."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from dfm_vla_ros.options import positive_count, versions

SIZES = ("tiny", "shipped", "larger")
LARGEST_SHARE = 0.05
"""Of the time that a network of the shipped size or above may wait for batches (issue 5)."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``bench train``."""
    parser = subparsers.add_parser("train", help="training speed by size of the network")
    parser.add_argument("--steps", type=positive_count, default=30, help="measured steps a row")
    parser.add_argument("--batch", type=positive_count, default=32, help="prefixes a step")
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=SIZES)
    parser.add_argument("--threads", type=positive_count, default=1, help="CPU threads of torch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table; 0 unless a network waits for data for a twentieth of its time."""
    from dfm_vla_ros.training.speed import devices, measure

    rows = []
    print("device  size      weights  samples/s (slow..fast)      step [ms]  waits for data")
    for device in devices():
        for size in options.sizes:
            row = measure(size, options.steps, options.batch, device, options.threads)
            rows.append(row)
            print(
                f"{row.device:7} {row.size:8} {row.parameters:9,}  {row.samples_per_s:9g} "
                f"({row.slow:g}..{row.fast:g})  {row.step_ms:9g}  {row.data_share:.2%}",
                flush=True,
            )
    good = all(row.data_share < LARGEST_SHARE for row in rows)
    if options.json:
        content = {"rows": [asdict(row) for row in rows], "versions": versions()}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1
