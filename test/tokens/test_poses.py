"""Object poses as tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.tokens.bins import FILE_POSES as FILE
from dfm_vla_ros.tokens.bins import PoseTokenizer
from dfm_vla_ros.tokens.specification import TokenizerError

NAMES = ("pot.x", "pot.sin_yaw", "block.x")


def fitted() -> PoseTokenizer:
    rng = np.random.default_rng(0)
    seen = np.stack([rng.uniform(0.2, 0.4, 50), rng.uniform(-0.3, 0.3, 50), np.zeros(50)], axis=1)
    return PoseTokenizer.fit(NAMES, seen)


def test_that_a_pose_is_known_to_a_fraction_of_a_millimetre_within_what_was_seen() -> None:
    tokenizer = fitted()
    step = (tokenizer.upper - tokenizer.lower) / (tokenizer.vocabulary_size - 1)
    assert step[0] < 2e-4
    x = np.linspace(0.21, 0.39, 1000)
    tokens = tokenizer.encode(np.stack([x, 0 * x, 0 * x], axis=1))
    assert np.abs(tokenizer.lower[0] + tokens[:, 0] * step[0] - x).max() <= step[0] / 2 + 1e-12
    assert (np.diff(tokens[:, 0]) >= 0).all()


def test_that_an_object_that_was_never_there_has_one_token_in_the_middle() -> None:
    token = fitted().encode(np.zeros((3, 3)))[0, 2]
    assert abs(token - 1023.5) <= 0.5


def test_that_what_lies_outside_is_clipped_and_what_is_not_finite_is_named() -> None:
    tokenizer = fitted()
    assert tokenizer.encode(np.array([9.0, -9.0, 0.0])).tolist()[:2] == [2047, 0]
    with pytest.raises(TokenizerError, match=r"pose pot\.sin_yaw is not finite"):
        tokenizer.encode(np.array([0.3, np.nan, 0.0]))


def test_that_what_is_saved_is_loaded_with_the_same_hash(tmp_path: Path) -> None:
    tokenizer = fitted()
    tokenizer.save(tmp_path)
    loaded = PoseTokenizer.load(tmp_path)
    assert (loaded.names, loaded.hash) == (NAMES, tokenizer.hash)
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text().replace("uniform_poses", "else"))
    with pytest.raises(TokenizerError, match=r"poses\.json holds a tokenizer of kind 'else'"):
        PoseTokenizer.load(tmp_path)


def test_that_poses_that_do_not_fit_their_names_are_refused() -> None:
    with pytest.raises(TokenizerError, match=r"poses have shape \(5, 2\), expected \(frames, 3\)"):
        PoseTokenizer.fit(NAMES, np.zeros((5, 2)))
    with pytest.raises(TokenizerError, match="collect the demonstrations in the twin"):
        PoseTokenizer.fit(NAMES, np.zeros((0, 3)))
