"""A data set gives back what was added to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.data.episodes import Episode
from dfm_vla_ros.data.format import DatasetSpec
from dfm_vla_ros.data.writer import DatasetWriter

POSES = ("block_x", "block_y")


def make_episode(seed: int = 3, length: int = 5, task: str = "place_block") -> Episode:
    rng = np.random.default_rng(seed)
    commanded = rng.normal(size=(length, 14))
    targets = rng.normal(size=(length, 14))
    targets[0] = commanded[0]
    cameras = {"third": (16, 24), "left_wrist": (16, 16)}
    return Episode(
        images={
            name: rng.integers(0, 256, (length, *size, 3), np.uint8)
            for name, size in cameras.items()
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
        style=f"pace={seed}",
    )


def assert_equal(one: Episode, other: Episode) -> None:
    for name in ("task", "seed", "instruction", "success", "period_s", "pose_names", "style"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("positions", "commanded", "targets", "poses"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert list(one.images) == list(other.images)
    for camera, images in one.images.items():
        np.testing.assert_array_equal(images, other.images[camera])


@pytest.mark.parametrize("storage", ["video", "image"])
def test_that_every_bit_of_the_episodes_comes_back_by_key(tmp_path: Path, storage: str) -> None:
    episodes = [make_episode(9), make_episode(4, 1), make_episode(5, 8, "pot_lift")]
    with DatasetWriter(tmp_path, DatasetSpec.of(episodes[0]), storage) as writer:
        for episode in episodes:
            writer.add(episode, f"{episode.task}_{episode.seed}")
    dataset = Dataset.open(tmp_path)
    assert dataset.keys == ("place_block_4", "place_block_9", "pot_lift_5")
    for written, read in zip(
        [episodes[1], episodes[0], episodes[2]], dataset.episodes(), strict=True
    ):
        assert_equal(written, read)
    assert [e.seed for e in dataset.episodes("place_block", limit=1, images=False)] == [4]
