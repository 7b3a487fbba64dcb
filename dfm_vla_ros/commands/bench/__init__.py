"""``dfm-vla bench``: measurements as commands; one a file, each defines ``add_parser``."""

from __future__ import annotations

import argparse

from dfm_vla_ros.cli import add_commands


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``bench`` and the benchmarks found in this folder."""
    parser = subparsers.add_parser("bench", help="measure speed; ratios within one run")
    benchmarks = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    add_commands(benchmarks, __path__, __name__)
