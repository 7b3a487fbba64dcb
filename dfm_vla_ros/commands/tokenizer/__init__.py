"""``dfm-vla tokenizer``: what stands between numbers and tokens; one command a file."""

from __future__ import annotations

import argparse

from dfm_vla_ros.cli import add_commands


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``tokenizer`` and the commands found in this folder."""
    parser = subparsers.add_parser("tokenizer", help="inspect, fit and measure tokenizers")
    commands = parser.add_subparsers(dest="tokenizer", required=True, metavar="COMMAND")
    add_commands(commands, __path__, __name__)
