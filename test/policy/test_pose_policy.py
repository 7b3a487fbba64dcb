"""A policy that sees where the objects are instead of images of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import POSES, pose_checkpoint, random_observation, small_checkpoint

from dfm_vla_ros.evaluation.runner import LoopConfig, load_loop
from dfm_vla_ros.model.checkpoint import Checkpoint, CheckpointError
from dfm_vla_ros.model.loading import describe, load_image_tokenizer, verify
from dfm_vla_ros.model.vision import ObservationError
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.sim.twin import Twin


def observation() -> Observation:
    return replace(random_observation(), images={}, poses=np.array([0.3, -0.1, 0.9]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pose_checkpoint().save(tmp_path / "poses", "# test\n")
    return tmp_path / "poses"


def test_that_it_acts_without_images_and_every_pose_changes_the_answer(folder: Path) -> None:
    policy = Policy.load(folder)
    assert (policy.cameras, policy.pose_names, policy.image_size) == ((), POSES, 0)
    answers = {policy.act(observation()).tokens.tobytes()}
    for i in range(len(POSES)):
        moved = observation().poses.copy()
        moved[i] -= 0.8
        answers.add(policy.act(replace(observation(), poses=moved)).tokens.tobytes())
    assert len(answers) == 1 + len(POSES)


def test_that_what_is_saved_acts_as_what_was_trained(folder: Path) -> None:
    before, after = Policy(pose_checkpoint()), Policy.load(folder)
    for seed in range(3):
        tokens = [policy.act(observation(), seed).tokens for policy in (before, after)]
        assert (tokens[0] == tokens[1]).all()
    assert verify(folder) == after.checkpoint_hash
    assert describe(folder)["poses"] == POSES


def test_that_training_and_acting_see_the_same_network() -> None:
    checkpoint = pose_checkpoint()
    seen = observation()
    prefix = checkpoint.encode_prefix(
        seen.instruction, seen.images, seen.positions, seen.commanded, seen.poses
    )
    tokens = torch.randint(0, 64, (1, 3, 112), generator=torch.Generator().manual_seed(0))
    together = checkpoint.refiner(prefix, tokens)
    for replica in range(3):
        alone = checkpoint.refiner.denoise(tokens[:, replica], checkpoint.refiner.prefill(prefix))
        torch.testing.assert_close(together[:, replica], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (None, "no object poses.*dfm-vla eval"),
        (np.zeros(4), r"poses have shape \(4,\), expected \(3,\): pot\.x, pot\.y"),
    ],
)
def test_that_missing_or_misshapen_poses_are_refused(
    folder: Path, poses: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ObservationError, match=message):
        Policy.load(folder).act(replace(observation(), poses=poses))


def test_that_poses_do_not_matter_to_a_policy_that_sees_images() -> None:
    policy = Policy(small_checkpoint())
    tokens = policy.act(random_observation()).tokens
    given = replace(random_observation(), poses=np.ones(25))
    assert (policy.act(given).tokens == tokens).all()


def test_that_another_pose_tokenizer_is_refused(folder: Path) -> None:
    file = folder / "tokenizer" / "poses.json"
    text = file.read_text()
    file.write_text(text.replace("pot.x", "pot.z"))
    with pytest.raises(CheckpointError, match="names of poses is"):
        Checkpoint.load(folder)
    file.write_text(text.replace("1.0", "1.5"))
    with pytest.raises(CheckpointError, match=r"the poses tokenizer in .* has hash"):
        Checkpoint.load(folder)


def test_that_it_has_no_image_tokenizer_to_give_away(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="acts on object poses"):
        load_image_tokenizer(folder)


def test_that_the_closed_loop_feeds_the_poses_of_the_twin_and_renders_nothing(
    tmp_path: Path,
) -> None:
    pose_checkpoint(names=Twin.pose_names).save(tmp_path / "twin", "# test\n")
    loop = load_loop(tmp_path / "twin", LoopConfig(timeout_s=1.0))
    seen, act = [], loop.act

    def watched(observation: Observation, *rest: object) -> object:
        seen.append(observation)
        np.testing.assert_array_equal(observation.poses, loop.twin.poses())
        return act(observation, *rest)

    loop.act = watched
    loop.run("pot_lift", 1_000_000)
    assert seen
    assert all(not observation.images for observation in seen)


def test_that_poses_of_another_twin_are_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="train again on demonstrations of this twin"):
        load_loop(folder)


def test_that_the_shipped_checkpoint_does_not_see_poses() -> None:
    policy = Policy.load(resource_path("checkpoints/default"))
    assert (policy.pose_names, len(policy.cameras)) == ((), 3)
