"""``dfm-vla calvin``: CALVIN's official chains."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``calvin`` and its commands."""
    parser = subparsers.add_parser("calvin", help="CALVIN: chains of tasks, evaluation, data")
    commands = parser.add_subparsers(dest="calvin", required=True, metavar="COMMAND")
    _add_sequences(commands)


def _add_sequences(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("sequences", help="make the official list of 1000 chains anew")
    parser.add_argument("--checksum", action="store_true", help="print the checksum alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the list there")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="name the rows where a published list differs",
    )
    parser.set_defaults(run=run_sequences)


def run_sequences(options: argparse.Namespace) -> int:
    """Print the chains, and last their checksum; 1 if it is not the official one."""
    import json

    from dfm_vla_ros.benchmarks.calvin import sequences

    chains = sequences.official_chains()
    found = sequences.checksum(chains)
    if options.json:
        rows = [[chain.state, list(chain.tasks)] for chain in chains]
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if not options.checksum:
        for number, chain in enumerate(chains):
            print(f"{number:4} {' -> '.join(chain.tasks)}")
    if options.compare:
        others = sequences.read_chains(options.compare)
        rows = sequences.differing_rows(chains, others)
        print(f"{options.compare}: {sequences.checksum(others)}, {len(rows)} rows differ: {rows}")
    print(found)
    return 0 if found == sequences.OFFICIAL else 1
