"""What every kind of action tokenizer does: there and back, however the tokens were damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokens.chunks import JOINTS, chunks, fitted

from dfm_vla_ros.tokens import ActionCodec, load_action_tokenizer
from dfm_vla_ros.tokens.codec import FILE
from dfm_vla_ros.tokens.loading import ACTION_KINDS
from dfm_vla_ros.tokens.specification import TokenizerError

KINDS = tuple(ACTION_KINDS)
CODECS = {kind: fitted(kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def codec(request: pytest.FixtureRequest) -> ActionCodec:
    return CODECS[request.param]


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), row=st.integers(0, 1999))
def test_that_the_round_trip_keeps_to_its_bound(kind: str, row: int) -> None:
    targets, reference = (part[row] for part in chunks(2000, seed=0))
    codec = CODECS[kind]
    back = codec.decode(codec.encode(targets, reference), reference)
    # The ends of the ranges are rounded to six digits.
    assert (np.abs(back - targets) <= codec.bound + 2e-6).all()


def test_that_the_bound_is_reached_within_a_factor_of_a_few(codec: ActionCodec) -> None:
    targets, reference = chunks(2000, seed=0)
    error = np.abs(codec.decode(codec.encode(targets, reference), reference) - targets)
    assert (error.max(axis=0)[:, :2] > codec.bound[:, :2] / 4).all()


def test_that_many_chunks_are_encoded_as_one_by_one(codec: ActionCodec) -> None:
    targets, reference = chunks(6, seed=3)
    together = codec.encode(targets.reshape(2, 3, 8, 3), reference.reshape(2, 3, 3))
    assert together.shape == (2, 3, *codec.token_shape)
    alone = np.stack([codec.encode(*pair) for pair in zip(targets, reference, strict=True)])
    assert (together.reshape(alone.shape) == alone).all()
    back = codec.decode(together, reference.reshape(2, 3, 3))
    assert np.allclose(back.reshape(targets.shape), codec.decode(alone, reference), atol=1e-12)


def test_that_flat_tokens_decode_as_shaped_ones(codec: ActionCodec) -> None:
    targets, reference = chunks(5, seed=4)
    tokens = codec.encode(targets, reference)
    flat = tokens.reshape(5, codec.token_count).astype(np.uint16)
    assert (codec.decode(flat, reference) == codec.decode(tokens, reference)).all()


def test_that_a_sound_chunk_has_nothing_malformed(codec: ActionCodec) -> None:
    targets, reference = chunks(2000, seed=0)
    report = codec.decode_report(codec.encode(targets, reference), reference)
    assert report.malformed.shape == (2000,)
    assert not report.malformed.any()


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**31))
def test_that_any_tokens_decode_to_targets_like_those_of_the_data(kind: str, seed: int) -> None:
    codec, rng = CODECS[kind], np.random.default_rng(seed)
    tokens = rng.integers(0, codec.vocabulary_size, codec.token_shape)
    reference = np.array([0.3, -0.9, 0.02])
    assert_like_the_data(codec.decode(tokens, reference), reference)


@pytest.mark.parametrize("extreme", [0.0, 0.5, 1.0])
def test_that_the_extreme_tokens_decode_too(codec: ActionCodec, extreme: float) -> None:
    tokens = np.full(codec.token_shape, round(extreme * (codec.vocabulary_size - 1)))
    reference = np.array([0.3, -0.9, 0.02])
    assert_like_the_data(codec.decode(tokens, reference), reference)


def assert_like_the_data(decoded: np.ndarray, reference: np.ndarray) -> None:
    targets, references = chunks(2000, seed=0)
    low, high = (f((targets - references[:, None])[..., :2], axis=0) for f in (np.min, np.max))
    slack = 0.05 * (high - low)
    away = decoded[:, :2] - reference[:2]
    assert (away > np.minimum(low, -high) - slack).all()
    assert (away < np.maximum(high, -low) + slack).all()
    assert (decoded[:, 2] > 0.0079).all()
    assert (decoded[:, 2] < 0.0351).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if ACTION_KINDS[kind].per_step])
def test_that_a_step_of_a_per_step_kind_depends_on_its_own_tokens_alone(kind: str) -> None:
    codec, rng = CODECS[kind], np.random.default_rng(5)
    tokens = rng.integers(0, codec.vocabulary_size, codec.token_shape)
    changed = tokens.copy()
    changed[3] = rng.integers(0, codec.vocabulary_size, 3)
    moved = codec.decode(changed, np.zeros(3)) != codec.decode(tokens, np.zeros(3))
    assert np.flatnonzero(moved.any(axis=1)).tolist() == [3]


def test_that_saving_and_loading_by_kind_keeps_hash_and_tokens(
    codec: ActionCodec, tmp_path: Path
) -> None:
    codec.save(tmp_path)
    loaded = load_action_tokenizer(tmp_path)
    assert type(loaded) is type(codec)
    assert loaded.hash == codec.hash
    targets, reference = chunks(20, seed=6)
    tokens = codec.encode(targets, reference)
    assert (loaded.encode(targets, reference) == tokens).all()
    assert (loaded.decode(tokens, reference) == codec.decode(tokens, reference)).all()


def test_that_all_kinds_have_different_hashes() -> None:
    assert len({codec.hash for codec in CODECS.values()}) == len(KINDS)


def test_that_every_missing_key_is_named(codec: ActionCodec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    whole = json.loads((tmp_path / FILE).read_text())
    for key in set(whole) - {"kind"}:
        (tmp_path / FILE).write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
        with pytest.raises(TokenizerError, match=rf"action\.json: '{key}' is missing"):
            load_action_tokenizer(tmp_path)


@pytest.mark.parametrize("wrong", [None, "7", True, [[1], [2, 3]], {"a": 1}, ["x"]])
def test_that_every_value_of_another_type_is_named(
    codec: ActionCodec, wrong: object, tmp_path: Path
) -> None:
    codec.save(tmp_path)
    whole = json.loads((tmp_path / FILE).read_text())
    for key in set(whole) - {"kind"}:
        (tmp_path / FILE).write_text(json.dumps(whole | {key: wrong}))
        with pytest.raises(TokenizerError, match=r"action\.json: "):
            load_action_tokenizer(tmp_path)


def test_that_an_unknown_key_and_an_unknown_kind_are_refused(
    codec: ActionCodec, tmp_path: Path
) -> None:
    codec.save(tmp_path)
    whole = json.loads((tmp_path / FILE).read_text())
    for changed, message in (
        (whole | {"colour": 3}, "'colour' is not known"),
        (whole | {"kind": "vq"}, "kind 'vq', known are uniform, maat, dct, fast"),
    ):
        (tmp_path / FILE).write_text(json.dumps(changed))
        with pytest.raises(TokenizerError, match=message):
            load_action_tokenizer(tmp_path)


def test_that_a_file_of_another_kind_is_refused_by_the_class(tmp_path: Path) -> None:
    CODECS["dct"].save(tmp_path)
    with pytest.raises(TokenizerError, match="kind 'dct', expected 'maat'"):
        ACTION_KINDS["maat"].load(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_that_targets_that_are_not_finite_are_refused(codec: ActionCodec, bad: float) -> None:
    targets, reference = (part[0] for part in chunks(1, seed=0))
    targets[2, 1] = bad
    with pytest.raises(TokenizerError, match="targets are not all finite"):
        codec.encode(targets, reference)
    with pytest.raises(TokenizerError, match="reference are not all finite"):
        codec.encode(np.zeros_like(targets), np.array([bad, 0, 0]))


def test_that_tokens_out_of_vocabulary_or_of_another_shape_are_refused(
    codec: ActionCodec,
) -> None:
    tokens = np.zeros(codec.token_count, dtype=int)
    for bad in (-1, codec.vocabulary_size):
        tokens[-1] = bad
        with pytest.raises(TokenizerError, match="allowed are"):
            codec.decode(tokens, np.zeros(3))
    with pytest.raises(TokenizerError, match="tokens have shape"):
        codec.decode(tokens[:-1], np.zeros(3))
    with pytest.raises(TokenizerError, match="float64, expected integers"):
        codec.decode(np.zeros(codec.token_count), np.zeros(3))


def test_that_the_joints_and_the_period_are_those_of_the_data(codec: ActionCodec) -> None:
    assert codec.joint_names == JOINTS
    assert (codec.horizon, codec.control_period_s) == (8, 0.1)
    assert codec.bound.shape == (8, 3)
