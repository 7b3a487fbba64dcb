"""Action tokens: what goes in comes out, and what cannot be meant is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.tokens.action import ActionTokenizer
from dfm_vla_ros.tokens.codec import FILE
from dfm_vla_ros.tokens.specification import TokenizerError

JOINTS = ("a", "b", "c")


@pytest.fixture
def tokenizer() -> ActionTokenizer:
    rng = np.random.default_rng(0)
    targets = rng.uniform(-0.5, 0.5, (2000, 4, 3))
    targets[..., 2] = rng.choice([0.008, 0.02, 0.035], (2000, 4))
    return ActionTokenizer.fit(targets, np.zeros((2000, 3)), JOINTS, ["c"], 0.1, quantile=1.0)


def test_that_the_round_trip_errs_by_at_most_half_a_bin(tokenizer: ActionTokenizer) -> None:
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(50, 3))
    targets = reference[:, None] + rng.uniform(-0.49, 0.49, (50, 4, 3))
    targets[..., 2] = rng.uniform(0.008, 0.035, (50, 4))
    back = tokenizer.decode(tokenizer.encode(targets, reference), reference)
    assert (np.abs(back - targets) <= tokenizer.widths / 2 + 1e-12).all()


def test_that_staying_where_one_is_decodes_exactly(tokenizer: ActionTokenizer) -> None:
    reference = np.array([0.1, -0.2, 0.02])
    targets = np.tile(reference, (4, 1))
    back = tokenizer.decode(tokenizer.encode(targets, reference), reference)
    assert (back[:, :2] == targets[:, :2]).all()


def test_that_a_gripper_does_not_depend_on_where_it_was(tokenizer: ActionTokenizer) -> None:
    tokens = np.full((4, 3), 3)
    here, there = (tokenizer.decode(tokens, np.full(3, q)) for q in (0.0, 0.03))
    assert (here[:, 2] == there[:, 2]).all()
    assert np.allclose(there[:, :2] - here[:, :2], 0.03)


def test_that_the_end_tokens_of_a_gripper_are_its_ends_in_the_data(
    tokenizer: ActionTokenizer,
) -> None:
    assert tokenizer.decode(np.zeros((4, 3), int), np.zeros(3))[0, 2] == pytest.approx(
        0.008, abs=1e-6
    )
    assert tokenizer.decode(np.full((4, 3), 255), np.zeros(3))[0, 2] == pytest.approx(
        0.035, abs=1e-6
    )


def test_that_far_targets_are_clipped_to_the_ends_of_the_range(tokenizer: ActionTokenizer) -> None:
    tokens = tokenizer.encode(np.full((4, 3), 9.0), np.zeros(3))
    assert (tokens == 255).all()
    assert (tokenizer.encode(np.full((4, 3), -9.0), np.zeros(3)) == 0).all()


def test_that_tokens_out_of_vocabulary_are_refused_by_value(tokenizer: ActionTokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"0\.\.256, allowed are 0\.\.255"):
        tokenizer.decode(np.array([[0, 1, 2], [3, 256, 4], [0, 0, 0], [0, 0, 0]]), np.zeros(3))


def test_that_a_chunk_of_another_horizon_is_refused(tokenizer: ActionTokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"shape \(5, 3\), expected \(\.\.\., 4, 3\)"):
        tokenizer.decode(np.zeros((5, 3), dtype=int), np.zeros(3))


def test_that_a_loaded_tokenizer_has_the_same_hash_and_an_edited_one_another(
    tokenizer: ActionTokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    assert ActionTokenizer.load(tmp_path).hash == tokenizer.hash
    content = json.loads((tmp_path / FILE).read_text())
    content["widths"][0][0] *= 1.0001
    (tmp_path / FILE).write_text(json.dumps(content))
    assert ActionTokenizer.load(tmp_path).hash != tokenizer.hash


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "fast"}', '{"kind": "uniform"}'])
def test_that_a_broken_file_is_an_error_that_names_it(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_text(text)
    with pytest.raises(TokenizerError, match=r"action\.json"):
        ActionTokenizer.load(tmp_path)
