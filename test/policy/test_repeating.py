"""A policy loaded to decode as another one did."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import random_observation, small_checkpoint

from dfm_vla_ros.model.caching import Caching
from dfm_vla_ros.policy.policy import DecodingError, Policy, load_like


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("policy") / "checkpoint"
    small_checkpoint().save(made, "# test\n")
    return made


def test_that_a_policy_with_other_settings_than_its_checkpoints_is_repeated_exactly(
    folder: Path,
) -> None:
    caching = Caching("adaptive", ratio=0.25)
    first = Policy.load(folder, refinement_steps=5, validation_steps=1, caching=caching)
    again = load_like(folder, first.decoding)
    assert again.decoding == first.decoding != Policy.load(folder).decoding
    for seed in range(3):
        expected = first.act(random_observation(seed), seed=seed)
        found = again.act(random_observation(seed), seed=seed)
        assert (found.tokens == expected.tokens).all()
        assert found.evaluations == expected.evaluations == 6


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"decoder": {"steps": 3}, "caching": {}}', '{"decoder": 3}']
)
def test_that_a_text_that_is_not_understood_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(DecodingError, match="is not understood"):
        load_like(folder, text)
