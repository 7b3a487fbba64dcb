"""How fast the loop trains networks of several sizes, and how long it waits for batches."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass

import numpy as np
import torch

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
"""Steps before the measured ones."""


@dataclass(frozen=True)
class TrainingSpeed:
    """One size of network on one kind of device; figures have four digits.

    Attributes:
        device: "cpu" or "cuda".
        size: of `SIZES`.
        parameters: number of trained weights.
        batch: prefixes a step.
        replicas: action sequences for each prefix.
        samples_per_s: prefixes a second, by the median step.
        slow: likewise, by the step at the 90th percentile.
        fast: likewise, by that at the 10th.
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


def measure(size: str, steps: int, batch: int, device: str, threads: int = 1) -> TrainingSpeed:
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
        trainer = _trainer(config)
        times, waited = _timed(trainer, steps)
        trainer.close()
    fast, median, slow = np.quantile(times, (0.1, 0.5, 0.9))
    figures = (batch / median, batch / slow, batch / fast, 1e3 * median, waited / sum(times))
    parameters = sum(parameter.numel() for parameter in trainer.module.parameters())
    reduced = [float(f"{figure:.4g}") for figure in figures]
    return TrainingSpeed(device, size, parameters, batch, config.replicas, *reduced)


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


def _trainer(config: TrainConfig) -> Trainer:
    """Return a trainer of an untrained network on random walks of the joints and random codes."""
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(0, 0.01, (FRAMES + config.horizon, len(JOINT_NAMES))), axis=0)
    steps = np.arange(FRAMES)[:, None] + np.arange(1, config.horizon + 1)
    joints, sentence = walk[:FRAMES], "place the block on the plate"
    numbers = (joints, joints, walk[steps], np.zeros(FRAMES, int), np.arange(FRAMES) // 100)
    frames = Frames(*numbers, (sentence,), {"place_block": sentence}, 0.1, JOINT_NAMES)
    torch.manual_seed(0)
    vision = FsqTokenizer(config.vision.network).eval().requires_grad_(False)
    checkpoint = fresh(config, frames, CAMERAS, vision)
    sizes = checkpoint.config.refiner
    shape = (FRAMES, 1, len(CAMERAS), sizes.grid**2)
    codes = np.random.default_rng(0).integers(0, np.prod(sizes.levels), shape).astype(np.int16)
    accelerator = make_accelerator(config)
    trainable = SmallTrainable(config, checkpoint, frames, codes, accelerator.device)
    return Trainer(config, trainable, RunFolder(config.out), accelerator)


def devices() -> list[str]:
    """Return cpu and, where there is a GPU, cuda."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
