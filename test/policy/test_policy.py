"""Observation in, chunk out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from small import random_observation, small_checkpoint

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.model.vision import square
from dfm_vla_ros.policy.policy import ObservationError, Policy
from dfm_vla_ros.policy.types import Guidance


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = tmp_path_factory.mktemp("policy") / "checkpoint"
    small_checkpoint().save(folder, "# test\n")
    return Policy.load(folder)


def test_that_the_same_observation_and_seed_give_the_same_tokens(policy: Policy) -> None:
    first, second = (policy.act(random_observation(), seed=3) for _ in range(2))
    assert (first.tokens == second.tokens).all()
    assert (first.tokens != policy.act(random_observation(), seed=4).tokens).any()


def test_that_a_chunk_has_a_token_in_vocabulary_for_each_step_and_joint(policy: Policy) -> None:
    chunk = policy.act(random_observation())
    assert chunk.tokens.shape == (8, 14)
    assert 0 <= chunk.tokens.min() <= chunk.tokens.max() < 64
    assert (chunk.reference == random_observation().commanded).all()


def test_that_fourteen_refinements_and_two_validations_cost_sixteen_evaluations(
    policy: Policy,
) -> None:
    assert policy.act(random_observation()).evaluations == 16


def test_that_every_input_changes_the_answer(policy: Policy) -> None:
    base = random_observation()
    black = {name: np.zeros_like(image) for name, image in base.images.items()}
    answers = [
        policy.act(observation).tokens.tobytes()
        for observation in (
            base,
            replace(base, images={**base.images, "third": black["third"]}),
            replace(base, images={**base.images, "left_wrist": black["left_wrist"]}),
            replace(base, positions=base.positions + 1.0),
            replace(base, commanded=base.commanded + 1.0),
            replace(base, instruction="plate the block"),
        )
    ]
    assert len(set(answers)) == len(answers)


def test_that_a_larger_image_is_seen_as_its_centre_square_resized() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    expected = cv2.resize(image[:, 8:56], (32, 32), interpolation=cv2.INTER_AREA)
    assert (square(image, 32) == expected).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {}}, "no image of camera third"),
        ({"positions": np.zeros(13)}, r"positions have shape \(13,\), expected \(14,\)"),
        ({"commanded": np.full(14, np.nan)}, "left_joint1 is not finite"),
        ({"instruction": "xyzzy"}, "no word of the instruction"),
    ],
)
def test_that_an_unusable_observation_is_refused(
    policy: Policy, change: dict[str, object], message: str
) -> None:
    with pytest.raises(DfmVlaError, match=message):
        policy.act(replace(random_observation(), **change))


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_that_an_image_of_another_type_or_shape_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ObservationError, match=r"expected uint8 \(H, W, 3\)"):
        square(image, 32)


def test_that_the_number_of_steps_can_be_changed_on_loading(tmp_path: Path) -> None:
    small_checkpoint().save(tmp_path / "c", "# test\n")
    policy = Policy.load(tmp_path / "c", refinement_steps=1, validation_steps=1)
    assert policy.act(random_observation()).evaluations == 2


def guidance(steps: int, start_t0: float | None = None, fill: int = 7) -> Guidance:
    """Return guidance that commits the first ``steps`` to one token."""
    mask = np.repeat(np.arange(8)[:, None] < steps, 14, axis=1)
    return Guidance(mask, np.full((8, 14), fill), start_t0, steps)


@pytest.mark.parametrize("start_t0", [None, 0.6])
def test_that_committed_tokens_come_out_as_they_are_and_change_the_others(
    policy: Policy, start_t0: float | None
) -> None:
    free = policy.act(random_observation())
    kept = policy.act(random_observation(), guidance=guidance(3, start_t0))
    other = policy.act(random_observation(), guidance=guidance(3, start_t0, fill=60))
    assert (kept.tokens[:3] == 7).all()
    assert (other.tokens[:3] == 60).all()
    assert (kept.tokens[3:] != other.tokens[3:]).any()
    assert (free.committed_steps, kept.committed_steps) == (0, 3)


def test_that_a_warm_start_takes_only_the_steps_after_its_time(policy: Policy) -> None:
    assert policy.act(random_observation(), guidance=guidance(2, 0.5)).evaluations == 8


def test_that_guidance_of_another_shape_is_refused(policy: Policy) -> None:
    wrong = Guidance(np.zeros((8, 13), bool), np.zeros((8, 14), np.int64), None, 0)
    with pytest.raises(ObservationError, match=r"guidance.committed has shape \(8, 13\)"):
        policy.act(random_observation(), guidance=wrong)
