"""FAST action tokens: DCT, one scale, low frequencies first, byte-pair encoding."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens.codec import (
    KEYS,
    SMALLEST_SPAN,
    Array,
    DecodeReport,
    Span,
    SpanCodec,
    Tokens,
    check_vocabulary,
    digits,
)
from dfm_vla_ros.tokens.dct import dct_basis
from dfm_vla_ros.tokens.specification import Fields, TokenizerError

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


KIND = "fast"
OWN_KEYS = {"kind", "q01", "q99", "scale", "least_symbol", "alphabet", "merges", "token_count"}
SPARE_TOKENS = 1.1
"""Room for chunks longer than any in the data: this times the longest of them."""


@dataclass(frozen=True)
class FastTokenizer(SpanCodec):
    """Maps a chunk to a sequence of tokens, padded with an end token to N (Pertsch et al. 2025).

    The values v (see ``Span``) become ``a = 2 (v - q01) / (q99 - q01) - 1`` (not clipped),
    ``c = rint(scale DCT(a))`` along time, and the symbols ``c - least_symbol`` in the order
    (H, D), low frequencies first, are byte-pair encoded. Token K - 1 ends and pads the sequence.

    Round trip: ``(q99 - q01) / 2 sum_k |B_kt| / 2 / scale`` where the chunk fits into N tokens and
    every coefficient into the symbols of the data; a longer chunk loses its highest frequencies.

    Corrupted tokens: a token stands for a run of coefficients, so one that is replaced by one of
    another length shifts all that follow, and the whole chunk of every joint is wrong. Decoding
    counts as malformed: tokens after the first end, coefficients too many (dropped) or too few
    (filled in with those of a chunk that stays at the reference: never zeros, which would be a
    pose), and targets that leave the span of the data (clipped to it).

    Attributes:
        span: targets are clipped to it.
        q01: (D,) value that is -1 [rad, m].
        q99: (D,) value that is 1.
        scale: symbols per unit of a coefficient.
        least_symbol: the rounded coefficient that symbol 0 stands for.
        bpe: symbols to tokens.
        token_length: N.
    """

    kind: ClassVar[str] = KIND
    per_step: ClassVar[bool] = False
    span: Span
    q01: Array
    q99: Array
    scale: float
    least_symbol: int
    bpe: Bpe
    token_length: int

    def __post_init__(self) -> None:
        """Check numbers and shapes."""
        check_vocabulary(self.vocabulary_size, self.span.control_period_s)
        shape = (len(self.span.joint_names),)
        q01, q99 = np.asarray(self.q01, float), np.asarray(self.q99, float)
        if q01.shape != shape or q99.shape != shape:
            raise TokenizerError(f"q01 and q99 have shapes {q01.shape}, {q99.shape}, not {shape}")
        if not (np.isfinite(q01).all() and np.isfinite(q99).all() and (q99 > q01).all()):
            raise TokenizerError("every q99 must be finite and exceed its q01: fit again")
        if not 0 < self.scale < np.inf or self.token_length < 1:
            raise TokenizerError(
                f"scale {self.scale} and token_count {self.token_length} must be positive"
            )

    @classmethod
    def fit(
        cls,
        targets: Array,
        reference: Array,
        joint_names: tuple[str, ...],
        absolute: Collection[str],
        control_period_s: float,
        vocabulary_size: int = 1024,
        scale: float = 50.0,
        token_count: int | None = None,
    ) -> FastTokenizer:
        """Return a tokenizer for data like ``targets`` (F, H, D) and ``reference`` (F, D).

        Args:
            targets: targets [rad, m].
            reference: commanded positions at the observations.
            joint_names: the D joints.
            absolute: joints that do not count from the reference (grippers).
            control_period_s: time between steps [s].
            vocabulary_size: tokens of the byte-pair encoding; the end token comes on top.
            scale: symbols per unit of a coefficient; UniVLA's 50, FAST's own default is 10.
            token_count: N; None: a tenth more than the longest chunk of the data.

        Raises:
            TokenizerError: the coefficients have more values than the vocabulary has tokens.
        """
        span = Span.fit(targets, reference, joint_names, absolute, control_period_s)
        values = span.values(targets, reference)
        q01, q99 = np.quantile(values, (0.01, 0.99), axis=(0, 1))
        missing = np.maximum(SMALLEST_SPAN - (q99 - q01), 0) / 2
        q01, q99 = digits(q01 - missing), digits(q99 + missing)
        rounded = np.rint(scale * _spectrum(values, q01, q99)).astype(np.int64)
        least, most = int(rounded.min()), int(rounded.max())
        symbols = (rounded - least).reshape(len(rounded), -1)
        bpe = Bpe.fit(list(symbols), most - least + 1, vocabulary_size)
        if token_count is None:
            longest = max(len(tokens) for tokens in bpe.encode(list(symbols)))
            token_count = int(np.ceil(SPARE_TOKENS * longest))
        return cls(span, q01, q99, scale, least, bpe, token_count)

    @property
    def token_shape(self) -> tuple[int, ...]:
        """(N,)."""
        return (self.token_length,)

    @property
    def vocabulary_size(self) -> int:
        """K: the tokens of the byte-pair encoding and the end token."""
        return self.bpe.vocabulary_size + 1

    @property
    def end_token(self) -> int:
        """Ends the sequence and pads it: K - 1."""
        return self.vocabulary_size - 1

    @cached_property
    def bound(self) -> Array:
        """(H, D): all coefficients half a symbol off."""
        return np.outer(np.abs(self._basis).sum(axis=0), (self.q99 - self.q01) / 4 / self.scale)

    @cached_property
    def _basis(self) -> Array:
        return dct_basis(self.horizon, self.horizon)

    def encode(self, targets: Array, reference: Array) -> Tokens:
        """Return tokens (..., N); see ``ActionCodec.encode``. Loads ``tokenizers``."""
        values = self.span.values(targets, reference)
        rounded = np.rint(self.scale * _spectrum(values, self.q01, self.q99))
        symbols = np.clip(rounded - self.least_symbol, 0, self.bpe.alphabet - 1).astype(np.int64)
        rows = self.bpe.encode(list(symbols.reshape(-1, self.span.low.size)))
        tokens = np.full((len(rows), self.token_length), self.end_token, dtype=np.int64)
        for padded, row in zip(tokens, rows, strict=True):
            padded[: len(row)] = row[: self.token_length]
        return tokens.reshape(*values.shape[:-2], self.token_length)

    def lengths(self, tokens: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return (...): how many tokens come before the first end token."""
        ended = self._arranged(tokens) == self.end_token
        return np.where(ended.any(axis=-1), ended.argmax(axis=-1), self.token_length)

    def decode_report(self, tokens: NDArray[np.integer], reference: Array) -> DecodeReport:
        """Return targets (..., H, D) and the number of malformed parts; see the class."""
        tokens = self._arranged(tokens)
        batch = tokens.shape[:-1]
        stay = self.span.stay(np.asarray(reference, float))
        stay = np.broadcast_to(stay, (*batch, *self.span.low.shape))
        spectrum = np.array(_spectrum(stay, self.q01, self.q99).reshape(*batch, -1))
        malformed = np.zeros(batch, dtype=np.int64)
        for at in np.ndindex(batch):
            malformed[at] = self._fill(spectrum[at], tokens[at])
        normalised = np.einsum("kt,...kj->...tj", self._basis, spectrum.reshape(stay.shape))
        values = self.q01 + (normalised + 1) / 2 * (self.q99 - self.q01)
        values, outside = self.span.clipped(values, self.bound)
        targets = self.span.base(reference) + values
        return DecodeReport(targets, malformed + outside.sum(axis=(-2, -1)))

    def _fill(self, spectrum: Array, tokens: Tokens) -> int:
        """Write the coefficients of one chunk over ``spectrum`` (H * D,); return what is wrong."""
        length = int(self.lengths(tokens))
        symbols = self.bpe.decode(tokens[:length])
        count = min(len(symbols), len(spectrum))
        spectrum[:count] = (symbols[:count] + self.least_symbol) / self.scale
        after_the_end = int((tokens[length:] != self.end_token).sum())
        return after_the_end + abs(len(symbols) - len(spectrum))

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Self:
        fields = Fields(content, KEYS | OWN_KEYS)
        return cls(
            Span.read(fields),
            fields.array("q01", 1),
            fields.array("q99", 1),
            fields.number("scale"),
            fields.integer("least_symbol"),
            Bpe(fields.integer("alphabet"), read_merges(fields.names("merges"))),
            fields.integer("token_count"),
        )

    def _content(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "q01": self.q01.tolist(),
            "q99": self.q99.tolist(),
            "scale": self.scale,
            "least_symbol": self.least_symbol,
            "alphabet": self.bpe.alphabet,
            "merges": self.bpe.content(),
            "token_count": self.token_length,
            **self.span.content(),
        }


def _spectrum(values: Array, q01: Array, q99: Array) -> Array:
    """Return (..., H, D): the orthonormal DCT-II along time of the normalised ``values``."""
    horizon = values.shape[-2]
    normalised = 2 * (values - q01) / (q99 - q01) - 1
    return np.einsum("kt,...tj->...kj", dct_basis(horizon, horizon), normalised)
