"""Errors of tokenizers, and what one wrong token does."""

from __future__ import annotations

import numpy as np
import pytest
from tokens.chunks import chunks, fitted

from dfm_vla_ros.evaluation.tokenizers import measure, replace_one
from dfm_vla_ros.tokens.loading import ACTION_KINDS

GRIPPERS = np.array([False, False, True])


@pytest.mark.parametrize("kind", sorted(ACTION_KINDS))
def test_that_exactly_one_token_before_the_padding_is_replaced(kind: str) -> None:
    codec = fitted(kind)
    tokens = codec.encode(*chunks(300, seed=1)).reshape(300, -1)
    lengths = codec.lengths(tokens) if kind == "fast" else np.full(300, tokens.shape[1])
    changed = replace_one(codec, tokens, lengths, seed=0) != tokens
    assert (changed.sum(axis=1) == 1).all()
    assert (changed.argmax(axis=1) < lengths).all()


def test_that_a_wrong_token_of_a_per_step_kind_moves_at_most_one_target() -> None:
    targets, reference = chunks(300, seed=1)
    measured = measure(fitted("uniform"), targets, reference, GRIPPERS)
    assert 0 < measured.moved <= 1 / 24
    assert measured.malformed == 0
    assert measured.tokens == 24


def test_that_one_wrong_token_of_fast_spoils_more_than_one_of_any_other_kind() -> None:
    targets, reference = chunks(300, seed=1)
    moved = {k: measure(fitted(k), targets, reference, GRIPPERS).moved for k in ACTION_KINDS}
    assert moved["uniform"] <= moved["dct"] < moved["fast"]


def test_that_errors_are_those_of_the_round_trip() -> None:
    targets, reference = chunks(300, seed=1)
    codec = fitted("maat")
    error = np.abs(codec.decode(codec.encode(targets, reference), reference) - targets)
    measured = measure(codec, targets, reference, GRIPPERS)
    assert measured.arms_rad.largest == error[..., :2].max()
    assert measured.grippers_m.median == np.median(error[..., 2])
    assert measured.arms_rad.median <= measured.arms_rad.p99 <= measured.arms_rad.largest
