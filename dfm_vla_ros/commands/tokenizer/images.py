"""``dfm-vla tokenizer images``: what a checkpoint's image tokens keep of the images."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.errors import DfmVlaError

if TYPE_CHECKING:
    from dfm_vla_ros.training.vision import ImageQuality

LABEL = 14


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``images``."""
    parser = subparsers.add_parser("images", help="PSNR and codebook use of an image tokenizer")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the shipped one")
    parser.add_argument(
        "--data", type=Path, help="demonstrations that were not trained on; none: make a few"
    )
    parser.add_argument("--episodes", type=int, default=0, help="of each task; 0: all, or 10")
    parser.add_argument("--per-episode", type=int, default=16, help="images of each camera")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of images")
    parser.add_argument("--workers", type=int, default=2, help="processes, without --data")
    parser.add_argument("--threads", type=int, default=1, help="of the network")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    import torch

    from dfm_vla_ros.commands.tokenizer.table import demonstrations
    from dfm_vla_ros.model.loading import load_image_tokenizer
    from dfm_vla_ros.resources import resource_path
    from dfm_vla_ros.training.vision import find_sources, load_images, measure_images

    check_counts(options, "per_episode", "workers", "threads")
    folder = options.checkpoint or resource_path("checkpoints/default")
    torch.set_num_threads(options.threads)
    tokenizer, cameras = load_image_tokenizer(folder)
    with demonstrations(options) as data:
        tasks = find_sources(data, options.episodes)
        sources = [source for found in tasks.values() for source in found]
        images = load_images(sources, cameras, options.per_episode, options.seed)
    rows = measure_images(tokenizer, images, cameras)
    counts = {task: len(found) for task, found in tasks.items()}
    report(rows, counts, options.json)
    return 0


def check_counts(options: argparse.Namespace, *names: str) -> None:
    """Raise DfmVlaError unless the options ``names`` are at least 1 and ``episodes`` 0."""
    for name in names:
        if getattr(options, name) < 1:
            flag = name.replace("_", "-")
            raise DfmVlaError(f"--{flag} is {getattr(options, name)}, give at least 1")
    if options.episodes < 0:
        raise DfmVlaError(f"--episodes is {options.episodes}, give at least 0 (0: all)")


def report(rows: Sequence[ImageQuality], episodes: dict[str, int], file: Path | None) -> None:
    """Print the rows, and write them to ``file`` if there is one."""
    print("\n".join(lines(rows, episodes)))
    if file is not None:
        content: dict[str, Any] = {"episodes": episodes, "rows": [asdict(row) for row in rows]}
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def lines(rows: Sequence[ImageQuality], episodes: dict[str, int]) -> Iterator[str]:
    """Yield the table: a heading, a row for each camera, one for all."""
    measured = ", ".join(f"{count} of {task}" for task, count in episodes.items())
    yield f"measured on episodes: {measured}"
    yield (
        f"{'':{LABEL}}{'images':>7}{'tokens':>7}{'PSNR dB':>9}{'worst':>7}"
        f"{'changing pixels dB':>20}{'codes used':>17}{'perplexity':>12}"
    )
    for row in rows:
        changing = "none" if row.changing_psnr_db is None else f"{row.changing_psnr_db:.1f}"
        yield (
            f"{row.camera:{LABEL}}{row.images:>7}{row.tokens:>7}{row.psnr_db:>9.1f}"
            f"{row.worst_psnr_db:>7.1f}{f'{changing} ({100 * row.changing:.0f}%)':>20}"
            f"{f'{100 * row.used:.1f}% of {row.vocabulary_size}':>17}{row.perplexity:>12.0f}"
        )
