"""``dfm-vla train``: episodes to a checkpoint folder."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``train``."""
    parser = subparsers.add_parser("train", help="train a policy on demonstrations")
    parser.add_argument("--config", type=Path, required=True, help="YAML file (config/train/)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. steps=500")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, and say where the checkpoint is."""
    from dfm_vla_ros.training.config import load_config
    from dfm_vla_ros.training.loop import train

    print(f"checkpoint: {train(load_config(options.config, options.overrides))}")
    return 0
