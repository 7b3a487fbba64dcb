"""Made-up data sets and small runs on them."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
from small import INSTRUCTION

from dfm_vla_ros.data.format import DatasetSpec, Episode
from dfm_vla_ros.data.writer import DatasetWriter
from dfm_vla_ros.model.vision import FsqConfig
from dfm_vla_ros.robot.joints import CAMERAS
from dfm_vla_ros.training.config import NetworkConfig, TrainConfig, VisionConfig, as_yaml

POSES = ("block.x", "block.y")


def episode(seed: int, length: int = 20, cameras: tuple[str, ...] = CAMERAS) -> Episode:
    """Return one in which the brightness of the images, and a pose, tell where the arms go."""
    side = 1 if seed % 2 else -1
    image = np.full((length, 32, 32, 3), 128 + 100 * side, dtype=np.uint8)
    path = np.linspace(0, 0.3 * side, length)[:, None] * np.ones(14)
    images = dict.fromkeys(cameras, image)
    joints = (path, path, path)
    named = ("place_block", seed, INSTRUCTION, True, 0.1)
    poses = np.tile([0.1 * side, 0.02 * (seed % 7)], (length, 1))
    return Episode(images, *joints, *named, poses, POSES)


def write(folder: Path, count: int = 4, length: int = 20) -> Path:
    """Write a data set of such episodes."""
    episodes = [episode(seed, length) for seed in range(count)]
    with DatasetWriter(folder, DatasetSpec.of(episodes[0]), "image") as writer:
        for each in episodes:
            writer.add(each, f"place_block_{each.seed:08d}")
    return folder


def small_run(tmp_path: Path, **changes: object) -> TrainConfig:
    """Return a run of seconds on the data set ``demos`` in ``tmp_path``."""
    settings = {
        "steps": 60,
        "batch": 8,
        "replicas": 2,
        "warmup_steps": 5,
        "ema": 0.9,
        "held_out": 0.25,
        "save_every": 30,
        "log_every": 10,
        "precision": "fp32",
        "device": "cpu",
        "vision": VisionConfig(
            FsqConfig(image_size=32, hidden=8), images_per_episode=10, steps=20, batch=8
        ),
        "network": NetworkConfig(width=32, layers=1, heads=2),
        **changes,
    }
    return TrainConfig(data=(str(tmp_path / "demos"),), out=str(tmp_path / "run"), **settings)


def rows(run: Path) -> list[dict[str, str]]:
    """Return metrics.csv."""
    return list(csv.DictReader((run / "metrics.csv").open()))


def launch(config: TrainConfig, processes: int) -> None:
    """Run ``config`` as ``dfm-vla train --processes`` does."""
    file = Path(config.out).with_suffix(".yaml")
    file.write_text(as_yaml(config))
    arguments = ["train", "--config", str(file), "--processes", str(processes)]
    command = [sys.executable, "-m", "dfm_vla_ros.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
