"""Shifted joints: the labels still lead to the expert's path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from demonstrations import small_run, write

from dfm_vla_ros.tokens.action import ActionTokenizer
from dfm_vla_ros.training.config import AugmentationConfig
from dfm_vla_ros.training.loop import make_accelerator, make_trainable
from dfm_vla_ros.training.objectives import Draws
from dfm_vla_ros.training.preparing import prepare
from dfm_vla_ros.training.run_folder import RunFolder
from dfm_vla_ros.training.small import JointShift

SHIFT_RAD = 0.004


def test_that_shifted_joints_have_labels_that_lead_to_the_same_targets(tmp_path: Path) -> None:
    write(tmp_path / "demos")
    config = small_run(tmp_path, observation="poses")
    checkpoint, frames, _ = prepare(config, tmp_path / "eyes")
    # Wider bins than these demonstrations, which stray from nothing, would have.
    widths = np.full((8, 14), 0.002)
    checkpoint.action = ActionTokenizer(frames.joint_names, widths, np.full(14, np.nan), 256, 0.1)
    index = torch.arange(8)
    joints, actions = JointShift(frames, checkpoint, SHIFT_RAD).tokens(
        index, Draws(0, 1, 8, range(8))
    )
    proprioception = checkpoint.proprioception
    step = (proprioception.upper - proprioception.lower) / (proprioception.vocabulary_size - 1)
    shown = proprioception.lower + joints.numpy().reshape(8, 2, 14) * step
    shift = shown[:, 1] - frames.commanded[:8]
    arms = ["gripper" not in name for name in frames.joint_names]
    assert 0.5 * SHIFT_RAD < shift[:, arms].std() < 2 * SHIFT_RAD
    assert np.abs(shift[:, np.logical_not(arms)]).max() <= step.max()
    measured = shown[:, 0] - frames.positions[:8]
    np.testing.assert_allclose(measured, shift, atol=1.01 * step.max())
    targets = checkpoint.action.decode(actions.numpy().reshape(8, 8, 14), shown[:, 1])
    error = np.abs(targets - frames.targets[:8])
    assert (error <= checkpoint.action.bound + step).all()


def test_that_the_shift_is_a_function_of_seed_and_step_and_off_by_default(tmp_path: Path) -> None:
    write(tmp_path / "demos")
    found = []
    for deviation in (0.0, SHIFT_RAD, SHIFT_RAD):
        augmentation = AugmentationConfig(joint_shift_rad=deviation)
        config = small_run(tmp_path, observation="poses", augmentation=augmentation)
        trainable = make_trainable(config, RunFolder(config.out), make_accelerator(config))
        batches = [trainable.batch(Draws(0, step, 8, range(8))).tensors for step in (1, 2)]
        found.append([batch["proprioception"] for batch in batches])
    assert not torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(a, b) for a, b in zip(found[1], found[2], strict=True))
