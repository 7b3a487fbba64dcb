"""The kinds that look at a chunk in frequency, and the grid over [-1, 1]."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
from tokens.chunks import JOINTS, chunks, fitted

from dfm_vla_ros.tokens.dct import block_basis, dct_basis
from dfm_vla_ros.tokens.fast import FastTokenizer
from dfm_vla_ros.tokens.loading import ACTION_KINDS
from dfm_vla_ros.tokens.specification import TokenizerError

FAST = fitted("fast", scale=20.0)
STAY = np.array([0.3, -0.9, 0.02])


@pytest.mark.parametrize("horizon", [1, 2, 8, 33])
def test_that_the_transform_is_the_orthonormal_dct(horizon: int) -> None:
    values = np.random.default_rng(0).normal(size=(horizon, 3))
    expected = scipy.fft.dct(values, axis=0, norm="ortho")
    assert np.allclose(dct_basis(horizon, horizon) @ values, expected)


def test_that_block_means_are_orthonormal_and_whole_when_none_is_dropped() -> None:
    assert np.allclose(block_basis(10, 4) @ block_basis(10, 4).T, np.eye(4))
    assert (block_basis(5, 5) == np.eye(5)).all()


def test_that_half_of_the_coefficients_keep_a_smooth_chunk_and_halve_its_tokens() -> None:
    whole, half = fitted("dct"), fitted("dct", coefficients=4)
    assert (whole.token_count, half.token_count) == (24, 12)
    targets, reference = chunks(200, seed=1)
    error = np.abs(half.decode(half.encode(targets, reference), reference) - targets)
    assert np.median(error[..., :2]) < 0.004


@pytest.mark.parametrize("kind", ["uniform", "dct"])
def test_that_staying_is_exact(kind: str) -> None:
    codec = fitted(kind)
    back = codec.decode(codec.encode(np.tile(STAY, (8, 1)), STAY), STAY)
    assert np.allclose(back[:, :2], STAY[:2], atol=1e-12)


def test_that_a_corrupted_frequency_bends_one_joint_only() -> None:
    codec = fitted("dct")
    tokens = codec.encode(*(part[0] for part in chunks(1, seed=2))).copy()
    sound = codec.decode(tokens, STAY)
    tokens[1] = 0
    moved = np.abs(codec.decode(tokens, STAY) - sound).max(axis=0)
    assert moved[1] > 0.1
    assert (moved[[0, 2]] == 0).all()


@pytest.mark.parametrize("count", [0, 9])
def test_that_impossible_numbers_of_coefficients_are_refused(count: int) -> None:
    with pytest.raises(TokenizerError, match=f"{count} coefficients; a chunk has 1 to 8"):
        fitted("dct", coefficients=count)


def test_that_q01_and_q99_clip_a_hundredth_at_each_end_but_no_gripper() -> None:
    codec = fitted("maat", quantile=0.01)
    targets, reference = chunks(2000, seed=0)
    tokens = codec.encode(targets, reference)
    assert codec.vocabulary_size == 2001
    for end in (0, 2000):
        assert (tokens[..., :2] == end).mean() == pytest.approx(0.01, abs=0.001)
    back = codec.decode(tokens, reference)
    assert np.abs(back - targets)[..., 2].max() < 1e-5


def test_that_fast_uses_fewer_tokens_than_one_a_step_and_joint() -> None:
    targets, reference = chunks(200, seed=1)
    lengths = FAST.lengths(FAST.encode(targets, reference))
    assert lengths.mean() < 12
    assert lengths.max() <= FAST.token_count


def test_that_a_coarser_scale_takes_fewer_tokens_and_errs_more() -> None:
    targets, reference = chunks(500, seed=1)
    lengths, errors = [], []
    for scale in (5.0, 20.0, 80.0):
        codec = fitted("fast", scale=scale)
        tokens = codec.encode(targets, reference)
        lengths.append(codec.lengths(tokens).mean())
        errors.append(np.abs(codec.decode(tokens, reference) - targets).mean())
    assert lengths == sorted(lengths)
    assert errors == sorted(errors, reverse=True)


def test_that_a_chunk_without_tokens_stays_at_the_reference_and_counts_all_missing() -> None:
    report = FAST.decode_report(np.full(FAST.token_count, FAST.end_token), STAY)
    assert np.allclose(report.targets, STAY, atol=1e-9)
    assert report.malformed == 24


def test_that_a_cut_chunk_keeps_its_low_frequencies() -> None:
    targets, reference = (part[0] for part in chunks(1, seed=3))
    tokens = FAST.encode(targets, reference).copy()
    last = int(FAST.lengths(tokens)) - 1
    missing = len(FAST.bpe.pieces[tokens[last]])
    tokens[last] = FAST.end_token
    report = FAST.decode_report(tokens, reference)
    assert report.malformed >= missing
    assert np.abs(report.targets - targets)[:, :2].max() < 0.2


def test_that_a_chunk_of_more_tokens_than_there_is_room_for_loses_high_frequencies() -> None:
    targets, reference = (part[0] for part in chunks(1, seed=3))
    full = FAST.encode(targets, reference)
    short = replace(FAST, token_length=int(FAST.lengths(full)) - 2)
    tokens = short.encode(targets, reference)
    assert (tokens == full[: short.token_count]).all()
    error = np.abs(short.decode(tokens, reference) - targets)[:, :2]
    assert FAST.bound[:, :2].max() / 10 < error.max() < 0.2


def test_that_tokens_after_the_end_change_nothing_and_are_counted() -> None:
    targets, reference = (part[0] for part in chunks(1, seed=3))
    tokens = FAST.encode(targets, reference)
    sound = FAST.decode_report(tokens, reference)
    littered = tokens.copy()
    littered[-2:] = 5
    report = FAST.decode_report(littered, reference)
    assert (report.targets == sound.targets).all()
    assert (sound.malformed, report.malformed) == (0, 2)


def test_that_coefficients_too_many_are_dropped_and_counted() -> None:
    longest = int(np.argmax([len(piece) for piece in FAST.bpe.pieces]))
    report = FAST.decode_report(np.full(FAST.token_count, longest), STAY)
    assert report.malformed >= FAST.token_count * len(FAST.bpe.pieces[longest]) - 24
    assert np.isfinite(report.targets).all()


def test_that_a_scale_too_fine_for_the_vocabulary_is_refused() -> None:
    with pytest.raises(TokenizerError, match="lower the scale or raise the vocabulary"):
        fitted("fast", scale=2000.0)


def test_that_the_same_data_give_the_same_fast_tokenizer() -> None:
    assert fitted("fast", scale=20.0).hash == FAST.hash


def test_that_decoding_every_kind_loads_nothing_heavy(tmp_path: Path) -> None:
    for kind in ACTION_KINDS:
        fitted(kind).save(tmp_path / kind)
    script = """
import sys
import numpy as np
from dfm_vla_ros.tokens import load_action_tokenizer
for folder in sys.argv[1:]:
    codec = load_action_tokenizer(folder)
    codec.decode(np.zeros(codec.token_count, dtype=int), np.zeros(3))
heavy = {"torch", "transformers", "tokenizers", "scipy"}
print(sorted(heavy & set(sys.modules)))
"""
    folders = [str(tmp_path / kind) for kind in ACTION_KINDS]
    command = [sys.executable, "-c", script, *folders]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == "[]"


def test_that_fitting_and_encoding_load_no_torch() -> None:
    script = """
import sys
sys.path.insert(0, sys.argv[1])
from tokens.chunks import chunks, fitted
fitted("fast").encode(*chunks(5, seed=1))
print(sorted({"torch", "transformers"} & set(sys.modules)), "tokenizers" in sys.modules)
"""
    command = [sys.executable, "-c", script, str(Path(__file__).parents[1])]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == "[] True"


def test_that_fast_is_fitted_for_its_joints() -> None:
    assert isinstance(FAST, FastTokenizer)
    assert FAST.joint_names == JOINTS
    assert FAST.vocabulary_size <= 1025
