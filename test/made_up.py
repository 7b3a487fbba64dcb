"""Made-up episodes, and what it means that two are the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dfm_vla_ros.data.format import DatasetSpec, Episode
from dfm_vla_ros.data.writer import DatasetWriter

POSES = ("block.x", "block.y")
CAMERAS = {"third": (16, 24), "left_wrist": (32, 32)}


def make_episode(seed: int = 3, length: int = 5, task: str = "place_block") -> Episode:
    """Return noise: nothing of it is equal to anything else by chance."""
    rng = np.random.default_rng(seed)
    commanded, targets = rng.normal(size=(2, length, 14))
    targets[0] = commanded[0]
    return Episode(
        images={
            name: rng.integers(0, 256, (length, *size, 3), np.uint8)
            for name, size in CAMERAS.items()
        },
        positions=rng.normal(size=(length, 14)),
        commanded=commanded,
        targets=targets,
        task=task,
        seed=seed,
        instruction=f"do {task}",
        success=seed % 2 == 0,
        period_s=0.1,
        poses=rng.normal(size=(length, len(POSES))),
        pose_names=POSES,
        style="arm=far",
    )


def write_set(folder: Path, episodes: list[Episode], storage: str = "video") -> Path:
    """Write a data set of ``episodes``."""
    with DatasetWriter(folder, DatasetSpec.of(episodes[0]), storage) as writer:
        for episode in episodes:
            writer.add(episode, key(episode))
    return folder


def statistics(folder: Path) -> dict[str, dict[str, list]]:
    """Return what ``meta/stats.json`` of a data set holds."""
    return json.loads((folder / "meta/stats.json").read_text())


def key(episode: Episode) -> str:
    """Return the name under which ``write_set`` keeps an episode."""
    return f"{episode.task}_{episode.seed:04d}"


def assert_equal(one: Episode, other: Episode) -> None:
    """Assert that two episodes are equal to the bit."""
    for name in ("task", "seed", "instruction", "success", "period_s", "pose_names", "style"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("positions", "commanded", "targets", "poses"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    assert list(one.images) == list(other.images)
    for camera, images in one.images.items():
        np.testing.assert_array_equal(images, other.images[camera], camera)
