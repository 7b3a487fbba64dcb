"""Byte-pair encoding over small integers: frequent runs of symbols become tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens.specification import TokenizerError

if TYPE_CHECKING:
    import tokenizers

FIRST_CHARACTER = 0x4E00
"""Symbol s is this character plus s: printable, one to one, and far from surrogates."""
LARGEST_ALPHABET = 0x4000


@dataclass(frozen=True)
class Bpe:
    """Tokens 0..A-1 are the symbols; each merge of two tokens adds one, in the order learnt.

    Reading needs numpy alone. Fitting and encoding load the ``tokenizers`` library.

    Attributes:
        alphabet: A, the number of symbols.
        merges: pairs of tokens, the first to apply first.
    """

    alphabet: int
    merges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Check that every merge joins tokens that exist by then."""
        if not 1 <= self.alphabet <= LARGEST_ALPHABET:
            raise TokenizerError(f"{self.alphabet} symbols, allowed are 1..{LARGEST_ALPHABET}")
        assert self.pieces  # built here, so that a broken merge is an error at once

    @classmethod
    def fit(
        cls, sequences: Sequence[NDArray[np.integer]], alphabet: int, vocabulary_size: int
    ) -> Bpe:
        """Return the merges of the most frequent pairs, up to ``vocabulary_size`` tokens.

        Raises:
            TokenizerError: the vocabulary cannot even hold the symbols.
        """
        import tokenizers

        if not alphabet <= min(vocabulary_size, LARGEST_ALPHABET):
            raise TokenizerError(
                f"{alphabet} symbols do not fit into {vocabulary_size} tokens: "
                "lower the scale or raise the vocabulary"
            )
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=list(_text(np.arange(alphabet))),
            max_token_length=10_000,
        )
        model = tokenizers.Tokenizer(tokenizers.models.BPE())
        model.train_from_iterator((_text(sequence) for sequence in sequences), trainer)
        return cls(alphabet, _learnt(model, alphabet))

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens."""
        return len(self.pieces)

    @cached_property
    def pieces(self) -> tuple[tuple[int, ...], ...]:
        """Symbols of every token; two merges that make the same run make one token."""
        pieces = {(symbol,): symbol for symbol in range(self.alphabet)}
        runs = list(pieces)
        for pair in self.merges:
            if not all(0 <= token < len(runs) for token in pair):
                raise TokenizerError(f"merge {pair} is of tokens that do not exist yet")
            run = runs[pair[0]] + runs[pair[1]]
            if run not in pieces:
                pieces[run] = len(runs)
                runs.append(run)
        return tuple(runs)

    @cached_property
    def _flat(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """All pieces end to end, where each begins, and their lengths."""
        lengths = np.array([len(piece) for piece in self.pieces])
        begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        return np.concatenate([np.array(piece) for piece in self.pieces]), begins, lengths

    @cached_property
    def _encoder(self) -> tokenizers.Tokenizer:
        import tokenizers

        texts = [_text(np.array(piece)) for piece in self.pieces]
        vocabulary = {text: token for token, text in enumerate(texts)}
        merges = [(texts[left], texts[right]) for left, right in self.merges]
        return tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges))

    def encode(self, sequences: Sequence[NDArray[np.integer]]) -> list[NDArray[np.int64]]:
        """Return the tokens of each sequence of symbols."""
        texts = [_text(sequence) for sequence in sequences]
        encoded = self._encoder.encode_batch(texts, add_special_tokens=False)
        return [np.array(one.ids, dtype=np.int64) for one in encoded]

    def decode(self, tokens: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the symbols of (n,) tokens."""
        symbols, begins, lengths = self._flat
        counts = lengths[tokens]
        ends = np.cumsum(counts)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        return symbols[np.repeat(begins[tokens], counts) + within]

    def content(self) -> list[str]:
        """Return the merges as a file holds them."""
        return [f"{left} {right}" for left, right in self.merges]


def read_merges(lines: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the merges of a file.

    Raises:
        TokenizerError: a line is not two numbers.
    """
    pairs = []
    for line in lines:
        words = line.split()
        if len(words) != 2 or not all(word.isascii() and word.isdigit() for word in words):
            raise TokenizerError(f"merge {line[:40]!r} is not two tokens")
        pairs.append((int(words[0]), int(words[1])))
    return tuple(pairs)


def _text(symbols: NDArray[np.integer]) -> str:
    return (np.asarray(symbols) + FIRST_CHARACTER).astype("<u4").tobytes().decode("utf-32-le")


def _learnt(model: tokenizers.Tokenizer, alphabet: int) -> tuple[tuple[int, int], ...]:
    """Return the merges of a trained model, in our numbering."""
    import json

    known = {_text(np.array([symbol])): symbol for symbol in range(alphabet)}
    pairs = []
    for left, right in json.loads(model.to_str())["model"]["merges"]:
        pairs.append((known[left], known[right]))
        known.setdefault(left + right, len(known))
    return tuple(pairs)
