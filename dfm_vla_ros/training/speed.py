"""How fast the loop trains networks of several sizes, and how long it waits for batches."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dfm_vla_ros.model.checkpoint import Checkpoint
from dfm_vla_ros.model.vision import FsqTokenizer
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES
from dfm_vla_ros.training.config import NetworkConfig, TrainConfig
from dfm_vla_ros.training.frames import Frames
from dfm_vla_ros.training.loop import Trainer, make_accelerator
from dfm_vla_ros.training.preparing import fresh
from dfm_vla_ros.training.run_folder import RunFolder
from dfm_vla_ros.training.small import SmallTrainable

SIZES = {
    "tiny": NetworkConfig(width=64, layers=2, heads=2),
    "shipped": NetworkConfig(width=160, layers=4, heads=5),
    "larger": NetworkConfig(width=384, layers=8, heads=6),
}
FRAMES = 2000
WARM_UP = 3


@dataclass(frozen=True)
class Row:
    """One size on one device.

    Attributes:
        device: name of the device's kind.
        size: name of the network's size.
        parameters: number of trained weights.
        batch, replicas: prefixes a step, and action sequences for each.
        samples_per_s: prefixes a second, by the median step.
        slow, fast: samples a second by the steps at the 90th and the 10th percentile.
        step_ms: median step.
        data_share: share of the time in which the network waited for a batch.
    """

    device: str
    size: str
    parameters: int
    batch: int
    replicas: int
    samples_per_s: float
    slow: float
    fast: float
    step_ms: float
    data_share: float


def measure(size: str, steps: int, batch: int, device: str, threads: int = 1) -> Row:
    """Train a network of a size in `SIZES` on made-up frames for so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            data=("made up",),
            out=folder,
            steps=steps + WARM_UP,
            batch=batch,
            device=device,
            threads=threads,
            held_out=0.0,
            network=SIZES[size],
        )
        trainer = _trainer(config, Path(folder))
        times, waited = _timed(trainer, steps)
        trainer.close()
    fast, median, slow = np.quantile(times, (0.1, 0.5, 0.9))
    return Row(
        device,
        size,
        sum(parameter.numel() for parameter in trainer.module.parameters()),
        batch,
        config.replicas,
        batch / median,
        batch / slow,
        batch / fast,
        1e3 * median,
        waited / sum(times),
    )


def _timed(trainer: Trainer, steps: int) -> tuple[list[float], float]:
    """Return the time of each step and all of it that was spent on waiting for batches [s]."""
    for step in range(1, WARM_UP + 1):
        trainer.step(step)
    before, times = trainer.waited_s, []
    for step in range(WARM_UP + 1, WARM_UP + steps + 1):
        began = time.perf_counter()
        trainer.step(step)  # waits for the device: it reads the loss
        times.append(time.perf_counter() - began)
    return times, trainer.waited_s - before


def _trainer(config: TrainConfig, folder: Path) -> Trainer:
    frames, checkpoint = _made_up(config)
    levels = checkpoint.config.refiner.levels
    patches = checkpoint.config.refiner.grid**2
    rng = np.random.default_rng(0)
    shape = (FRAMES, 1, len(CAMERAS), patches)
    codes = rng.integers(0, np.prod(levels), shape).astype(np.int16)
    accelerator = make_accelerator(config)
    trainable = SmallTrainable(config, checkpoint, frames, codes, accelerator.device)
    return Trainer(config, trainable, RunFolder(folder), accelerator)


def _made_up(config: TrainConfig) -> tuple[Frames, Checkpoint]:
    """Return random walks of the joints, and an untrained checkpoint for them."""
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(0, 0.01, (FRAMES + config.horizon, len(JOINT_NAMES))), axis=0)
    steps = np.arange(FRAMES)[:, None] + np.arange(1, config.horizon + 1)
    joints = walk[:FRAMES]
    frames = Frames(
        joints,
        joints,
        walk[steps],
        np.zeros(FRAMES, int),
        np.arange(FRAMES) // 100,
        ("place the block on the plate",),
        {"place_block": "place the block on the plate"},
        0.1,
        JOINT_NAMES,
    )
    torch.manual_seed(0)
    vision = FsqTokenizer(config.vision.network).eval().requires_grad_(False)
    return frames, fresh(config, frames, CAMERAS, vision)


def devices() -> Iterator[str]:
    """Yield cpu and, where there is a GPU, cuda."""
    yield "cpu"
    if torch.cuda.is_available():
        yield "cuda"


def reduced(row: Row) -> Row:
    """Return ``row`` with numbers as precise as they are."""
    numbers = {k: float(f"{v:.4g}") for k, v in vars(row).items() if isinstance(v, float)}
    return replace(row, **numbers)
