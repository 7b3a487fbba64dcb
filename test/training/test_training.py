"""A short run on made-up episodes: from files to a policy that acts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from small import INSTRUCTION, random_observation

from dfm_vla_ros.data.episodes import Episode, EpisodeError, episode_path, save_episode
from dfm_vla_ros.model.fsq import FsqConfig
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.robot.joints import CAMERAS
from dfm_vla_ros.training.batches import sample_times, smoothed_labels
from dfm_vla_ros.training.config import NetworkConfig, TrainConfig, VisionConfig
from dfm_vla_ros.training.frames import next_targets
from dfm_vla_ros.training.loop import train
from dfm_vla_ros.training.optimiser import warmup_cosine


def write_episodes(folder: Path, count: int = 4, length: int = 20) -> None:
    """Write episodes in which the brightness of the images tells where the arms go."""
    folder.mkdir()
    for seed in range(count):
        side = 1 if seed % 2 else -1
        image = np.full((length, 32, 32, 3), 128 + 100 * side, dtype=np.uint8)
        path = np.linspace(0, 0.3 * side, length)[:, None] * np.ones(14)
        episode = Episode(
            dict.fromkeys(CAMERAS, image),
            path,
            path,
            path,
            "place_block",
            seed,
            INSTRUCTION,
            True,
            0.1,
        )
        save_episode(episode, episode_path(folder, "place_block", seed))


def small_run(tmp_path: Path, **changes: object) -> TrainConfig:
    return TrainConfig(
        data=(str(tmp_path / "demos"),),
        out=str(tmp_path / "checkpoint"),
        **{
            "steps": 60,
            "batch": 8,
            "replicas": 2,
            "warmup_steps": 5,
            "ema": 0.9,
            "held_out": 0.25,
            "save_every": 30,
            "bf16": False,
            "vision": VisionConfig(
                FsqConfig(image_size=32, hidden=8), images_per_episode=10, steps=20, batch=8
            ),
            "network": NetworkConfig(width=32, layers=1, heads=2),
            **changes,
        },
    )


def losses(tmp_path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((tmp_path / "checkpoint.csv").open()))


def test_that_a_run_learns_and_leaves_a_policy_that_acts(tmp_path: Path) -> None:
    write_episodes(tmp_path / "demos")
    folder = train(small_run(tmp_path))
    rows = losses(tmp_path)
    assert [int(row["step"]) for row in rows] == [30, 60]
    assert float(rows[-1]["held_loss_t0"]) < float(rows[0]["held_loss_t0"]) < np.log(256)
    policy = Policy.load(folder)
    assert policy.act(random_observation()).tokens.shape == (8, 14)
    assert policy.tasks == {"place_block": INSTRUCTION}


def test_that_the_same_seed_gives_the_same_losses(tmp_path: Path) -> None:
    write_episodes(tmp_path / "demos")
    seen = []
    for _ in range(2):
        train(small_run(tmp_path, steps=6, save_every=3))
        seen.append([(row["loss"], row["held_loss_t0"]) for row in losses(tmp_path)])
    assert seen[0] == seen[1]


def test_that_no_steps_leave_an_untrained_checkpoint(tmp_path: Path) -> None:
    write_episodes(tmp_path / "demos")
    folder = train(small_run(tmp_path, steps=0))
    assert Policy.load(folder).act(random_observation()).evaluations == 16


def test_that_an_empty_data_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "demos").mkdir()
    with pytest.raises(EpisodeError, match="dfm-vla collect"):
        train(small_run(tmp_path))


def test_that_the_label_of_step_k_is_the_target_k_frames_later() -> None:
    targets = np.arange(5.0)[:, None]
    expected = [[1, 2], [2, 3], [3, 4], [4, 4], [4, 4]]
    assert next_targets(targets, 2)[..., 0].tolist() == expected


def test_that_the_first_replica_is_pure_noise_and_no_time_reaches_one() -> None:
    times = sample_times(1000, 4, 2.0, torch.Generator().manual_seed(0))
    assert (times[:, 0] == 0).all()
    assert times[:, 1:].max() <= 0.999
    assert times[:, 1:].mean() == pytest.approx(1 / 3, abs=0.02)


def test_that_smoothed_labels_are_distributions_around_the_label() -> None:
    labels = smoothed_labels(64, 1.5)
    assert torch.allclose(labels.sum(-1), torch.ones(64))
    assert (labels.argmax(-1) == torch.arange(64)).all()
    assert torch.equal(smoothed_labels(4, 0), torch.eye(4))


def test_that_the_schedule_warms_up_and_ends_at_a_hundredth() -> None:
    factors = [warmup_cosine(step, 10, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(0.01, abs=1e-3)
