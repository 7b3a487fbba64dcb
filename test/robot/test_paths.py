"""Tokens as paths of the grippers."""

from __future__ import annotations

import numpy as np
import pytest

from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.model import RobotModel, arm_confidence, tip_paths
from dfm_vla_ros.tokens.action import ActionTokenizer
from dfm_vla_ros.tokens.loading import load_action_tokenizer
from dfm_vla_ros.tokens.specification import TokenizerError

REFERENCE = np.array([0.2, 1.0, -1.0, 0.1, 0.5, 0.0, 0.02] * 2)


@pytest.fixture(scope="module")
def kinematics() -> RobotModel:
    return RobotModel()


@pytest.fixture(scope="module")
def tokenizer() -> ActionTokenizer:
    return load_action_tokenizer(resource_path("checkpoints/default"))


def test_that_a_path_goes_from_the_reference_through_every_target(
    tokenizer: ActionTokenizer, kinematics: RobotModel
) -> None:
    tokens = np.random.default_rng(0).integers(90, 160, (3, tokenizer.token_count))
    paths = tip_paths(tokenizer, kinematics, tokens, REFERENCE)
    assert paths.shape == (3, tokenizer.horizon + 1, 2, 3)
    for row in range(3):
        np.testing.assert_allclose(paths[row, 0], kinematics.points(REFERENCE))
        for step, target in enumerate(tokenizer.decode(tokens[row], REFERENCE), start=1):
            np.testing.assert_allclose(paths[row, step], kinematics.points(target))


def test_that_tokens_of_one_arm_move_its_gripper_alone(
    tokenizer: ActionTokenizer, kinematics: RobotModel
) -> None:
    still = np.full((tokenizer.horizon, 14), tokenizer.vocabulary_size // 2)
    moved = still.copy()
    moved[:, JOINT_NAMES.index("right_joint1")] += 20
    rows = np.stack([still, moved]).reshape(2, -1)
    paths = tip_paths(tokenizer, kinematics, rows, REFERENCE)
    np.testing.assert_allclose(paths[0, :, 0], paths[1, :, 0])
    assert (np.abs(paths[0, 1:, 1] - paths[1, 1:, 1]).max(axis=-1) > 1e-3).all()


def test_that_a_row_with_a_masked_token_has_no_path(
    tokenizer: ActionTokenizer, kinematics: RobotModel
) -> None:
    tokens = np.full((2, tokenizer.token_count), 128)
    tokens[0, 5] = tokenizer.vocabulary_size
    paths = tip_paths(tokenizer, kinematics, tokens, REFERENCE)
    assert np.isnan(paths[0]).all()
    assert np.isfinite(paths[1]).all()


def test_that_tokens_of_another_number_are_refused(
    tokenizer: ActionTokenizer, kinematics: RobotModel
) -> None:
    with pytest.raises(TokenizerError, match="tokens have shape"):
        tip_paths(tokenizer, kinematics, np.zeros((2, 13), dtype=int), REFERENCE)


def test_that_confidence_is_the_mean_over_the_tokens_of_one_arm_and_step(
    tokenizer: ActionTokenizer,
) -> None:
    values = np.random.default_rng(1).random((4, tokenizer.token_count))
    found = arm_confidence(tokenizer, values)
    assert found.shape == (4, tokenizer.horizon, 2)
    one = values.reshape(4, tokenizer.horizon, 14)[2, 3]
    assert found[2, 3, 0] == pytest.approx(one[:7].mean())
    assert found[2, 3, 1] == pytest.approx(one[7:].mean())
