"""``dfm-vla tokenizer fit-images``: an image tokenizer from demonstrations."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``fit-images``."""
    parser = subparsers.add_parser(
        "fit-images", help="train an image tokenizer on demonstrations, and measure it"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that collect made")
    parser.add_argument(
        "--out", type=Path, required=True, help="new folder, for vision.checkpoint"
    )
    parser.add_argument("--steps", type=int, default=1500, help="of the optimiser")
    parser.add_argument("--episodes", type=int, default=0, help="of each task; 0: all")
    parser.add_argument("--per-episode", type=int, default=7, help="images of each camera")
    parser.add_argument("--seed", type=int, default=0, help="of weights, images and batches")
    parser.add_argument("--threads", type=int, default=1, help="of the network")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train on four fifths of the episodes, write the folder, measure on the rest."""
    import torch

    from dfm_vla_ros.commands.tokenizer.images import check_counts, report
    from dfm_vla_ros.model.loading import check_absent, save_image_tokenizer
    from dfm_vla_ros.robot.joints import CAMERAS
    from dfm_vla_ros.training.vision import (
        find_sources,
        fit_image_tokenizer,
        load_images,
        measure_images,
        split_sources,
    )

    check_counts(options, "per_episode", "steps", "threads")
    check_absent(options.out)
    torch.set_num_threads(options.threads)
    rest, held = split_sources(find_sources(options.data, options.episodes))
    images = load_images(rest, CAMERAS, options.per_episode, options.seed)
    tokenizer = fit_image_tokenizer(images, options.steps, options.seed)
    unseen = [source for found in held.values() for source in found]
    unseen_images = load_images(unseen, CAMERAS, options.per_episode, options.seed)
    rows = measure_images(tokenizer, unseen_images, CAMERAS)
    readme = _readme(options, images.shape[1], len(rest), rows[-1].psnr_db)
    save_image_tokenizer(options.out, tokenizer, CAMERAS, readme)
    measured = {task: len(found) for task, found in held.items()}
    report(rows, measured, options.json)
    print(f"trained on {len(rest)} episodes, written to {options.out}")
    return 0


def _readme(options: argparse.Namespace, images: int, episodes: int, psnr_db: float) -> str:
    return (
        "# Image tokenizer\n\n"
        f"Trained for {options.steps} steps (seed {options.seed}) on {images} images of each "
        f"camera from {episodes} episodes in {options.data.name}; {psnr_db:.1f} dB PSNR on "
        "held-out episodes.\n\n"
        "For a training run: `vision.checkpoint=` and this folder.\n"
    )
