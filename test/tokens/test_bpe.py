"""Byte-pair encoding, against one written down naively."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm_vla_ros.tokens.fast import Bpe, read_merges
from dfm_vla_ros.tokens.specification import TokenizerError


def sequences(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    walks = np.abs(np.cumsum(rng.integers(-1, 2, (300, 40)), axis=1))
    return list(np.minimum(walks, 11))


BPE = Bpe.fit(sequences(0), alphabet=12, vocabulary_size=80)


def naive(merges: tuple[tuple[int, int], ...], symbols: list[int]) -> list[tuple[int, ...]]:
    """Apply the merges in order, each wherever it fits, left to right, on runs of symbols."""
    runs = [(symbol,) for symbol in symbols]
    pieces: list[tuple[int, ...]] = [(symbol,) for symbol in range(12)]
    for left, right in merges:
        pair, joined = (pieces[left], pieces[right]), []
        while runs:
            if len(runs) > 1 and (runs[0], runs[1]) == pair:
                joined.append(runs[0] + runs[1])
                runs = runs[2:]
            else:
                joined.append(runs[0])
                runs = runs[1:]
        runs = joined
        if pair[0] + pair[1] not in pieces:
            pieces.append(pair[0] + pair[1])
    return runs


def test_that_frequent_runs_become_tokens() -> None:
    assert BPE.vocabulary_size == 80
    encoded = BPE.encode(sequences(1))
    assert np.mean([len(tokens) for tokens in encoded]) < 20


@given(st.lists(st.integers(0, 11), max_size=60))
def test_that_what_is_encoded_decodes_to_itself(symbols: list[int]) -> None:
    (tokens,) = BPE.encode([np.array(symbols, dtype=int)])
    assert BPE.decode(tokens).tolist() == symbols


def test_that_tokens_are_those_of_the_naive_encoder() -> None:
    for symbols, tokens in zip(sequences(2), BPE.encode(sequences(2)), strict=True):
        assert [BPE.pieces[token] for token in tokens] == naive(BPE.merges, symbols.tolist())


def test_that_the_lines_of_a_file_read_back() -> None:
    assert Bpe(12, read_merges(BPE.content())).pieces == BPE.pieces


def test_that_an_alphabet_larger_than_the_vocabulary_is_refused() -> None:
    with pytest.raises(TokenizerError, match="12 symbols do not fit into 11 tokens"):
        Bpe.fit(sequences(0), alphabet=12, vocabulary_size=11)


@pytest.mark.parametrize("line", ["", "1", "1 2 3", "1 x", "-1 2", "1.0 2"])
def test_that_a_line_that_is_no_merge_is_refused(line: str) -> None:
    with pytest.raises(TokenizerError, match="is not two tokens"):
        read_merges(["0 1", line])


def test_that_a_merge_of_tokens_to_come_is_refused() -> None:
    with pytest.raises(TokenizerError, match=r"merge \(12, 14\)"):
        Bpe(12, ((0, 1), (12, 14)))
