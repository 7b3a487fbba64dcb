"""What a run may be denied: cameras, the sentence, demonstrations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from demonstrations import episode, small_run, write
from small import random_observation

from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.data.format import DatasetSpec
from dfm_vla_ros.data.writer import DatasetWriter
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.training.config import ConfigError, NetworkConfig
from dfm_vla_ros.training.frames import list_sources, make_frames
from dfm_vla_ros.training.loop import train


@pytest.fixture(autouse=True)
def demos(tmp_path: Path) -> Path:
    return write(tmp_path / "demos")


def test_that_a_run_without_wrist_cameras_makes_a_policy_that_needs_none(tmp_path: Path) -> None:
    policy = Policy.load(train(small_run(tmp_path, cameras=("third",), steps=2)))
    seen = random_observation()
    assert policy.cameras == ("third",)
    alone = replace(seen, images={"third": seen.images["third"]})
    assert np.array_equal(policy.act(alone).tokens, policy.act(seen).tokens)


def test_that_a_camera_that_the_data_lack_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cameras names belly; the data sets have third"):
        train(small_run(tmp_path, cameras=("third", "belly")))


def test_that_a_policy_without_words_acts_alike_whatever_is_said(tmp_path: Path) -> None:
    network = NetworkConfig(width=32, layers=1, heads=2, text_length=0)
    policy = Policy.load(train(small_run(tmp_path, network=network, steps=2)))
    seen = random_observation()
    other = replace(seen, instruction="the plate on the block")
    assert np.array_equal(policy.act(seen).tokens, policy.act(other).tokens)


def test_that_a_limit_of_episodes_holds_for_each_task(tmp_path: Path) -> None:
    made = [replace(episode(seed), task=task) for task in "ab" for seed in range(3)]
    with DatasetWriter(tmp_path / "two", DatasetSpec.of(made[0]), "image") as writer:
        for each in made:
            writer.add(each, f"{each.task}_{each.seed}")
    sources = list_sources([Dataset.open(tmp_path / "two")], 2)
    assert [source.key.rpartition("/")[2] for source in sources] == ["a_0", "a_1", "b_0", "b_1"]


def test_that_a_task_is_named_by_the_sentence_it_was_told_in_most_often(tmp_path: Path) -> None:
    told = ["carry the pot", "lift the pot", "raise the pot", "lift the pot"]
    made = [replace(episode(seed), instruction=said) for seed, said in enumerate(told)]
    with DatasetWriter(tmp_path / "told", DatasetSpec.of(made[0]), "image") as writer:
        for each in made:
            writer.add(each, f"{each.task}_{each.seed}")
    frames = make_frames(list_sources([Dataset.open(tmp_path / "told")], 0), horizon=4)
    assert list(frames.tasks.values()) == ["lift the pot"]
    assert set(frames.sentences) == set(told)
