"""Moved objects: in the plane and turned; absent ones stay nowhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from demonstrations import small_run, write

from dfm_vla_ros.model.checkpoint import Checkpoint
from dfm_vla_ros.sim.twin import POSE_NAMES
from dfm_vla_ros.tokens.bins import PoseTokenizer
from dfm_vla_ros.training.config import AugmentationConfig, ConfigError
from dfm_vla_ros.training.frames import Frames
from dfm_vla_ros.training.loop import make_accelerator, make_trainable
from dfm_vla_ros.training.objectives import Draws
from dfm_vla_ros.training.preparing import prepare
from dfm_vla_ros.training.run_folder import RunFolder
from dfm_vla_ros.training.small import PoseShift

SHIFT_M = 0.003
ROWS = 400


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Checkpoint, Frames]:
    """A block and a pot of the twin's objects, in every frame."""
    write(tmp_path / "demos")
    config = small_run(tmp_path, observation="poses")
    checkpoint, frames, _ = prepare(config, tmp_path / "eyes")
    poses = np.zeros((len(frames), len(POSE_NAMES)))
    poses[:, :10] = [0.3, 0.1, 0.02, 1, 0, 0.25, -0.1, 0.05, np.cos(0.4), np.sin(0.4)]
    wide = np.full(len(POSE_NAMES), 2.0)
    checkpoint.poses = PoseTokenizer(POSE_NAMES, -wide, wide, 1 << 14)
    return checkpoint, replace(frames, poses=poses, pose_names=POSE_NAMES)


def test_that_objects_that_are_there_move_and_turn_and_others_stay_nowhere(
    scene: tuple[Checkpoint, Frames],
) -> None:
    checkpoint, frames = scene
    index, draws = torch.zeros(ROWS, dtype=torch.long), Draws(0, 1, ROWS, range(ROWS))
    tokens = PoseShift(frames, checkpoint, SHIFT_M).tokens(index, draws)
    step = 4.0 / ((1 << 14) - 1)
    shown = (-2.0 + tokens.numpy() * step).reshape(ROWS, -1, 5)
    truth = frames.poses[0].reshape(-1, 5)
    assert np.abs(shown[:, 2:]).max() <= step
    moved = shown[:, :2, :2] - truth[:2, :2]
    assert 0.9 * SHIFT_M < moved.std() < 1.1 * SHIFT_M
    assert np.abs(shown[:, :2, 2] - truth[:2, 2]).max() <= step
    np.testing.assert_allclose(np.hypot(*shown[:, :2, 3:].T), 1.0, atol=2 * step)
    turned = np.arctan2(shown[:, 1, 4], shown[:, 1, 3]) - 0.4
    assert 0.9 * 10 * SHIFT_M < turned.std() < 1.1 * 10 * SHIFT_M


def test_that_the_shift_follows_from_seed_and_step(scene: tuple[Checkpoint, Frames]) -> None:
    shift, index = PoseShift(*reversed(scene), SHIFT_M), torch.arange(8)
    first, again, later = (shift.tokens(index, Draws(0, n, 8, range(8))) for n in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_that_poses_of_another_form_are_refused_by_name_unless_the_shift_is_off(
    tmp_path: Path,
) -> None:
    write(tmp_path / "demos")
    config = small_run(tmp_path, observation="poses")
    make_trainable(config, RunFolder(config.out), make_accelerator(config))
    config = replace(config, augmentation=AugmentationConfig(pose_shift_m=SHIFT_M))
    with pytest.raises(ConfigError, match=r"block\.cos_yaw"):
        make_trainable(config, RunFolder(config.out), make_accelerator(config))
