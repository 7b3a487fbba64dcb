"""Instruction words as tokens: those of the demonstrations, "unknown" and padding."""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens.specification import (
    Fields,
    TokenizerError,
    content_hash,
    naming,
    read_specification,
    write_specification,
)

if TYPE_CHECKING:
    import tokenizers


FILE = Path("tokenizer") / "text.json"
KIND = "words"
PAD, UNKNOWN = 0, 1


def split_words(sentence: str) -> list[str]:
    """Return the lower-case words of ``sentence``, without punctuation."""
    return re.findall(r"[^\W_]+", sentence.lower())


@dataclass(frozen=True)
class TextTokenizer:
    """Maps a sentence to ``length`` tokens: 0 pads, 1 is an unknown word, then ``words``."""

    words: tuple[str, ...]
    length: int

    @classmethod
    def fit(cls, sentences: Iterable[str], length: int = 12) -> TextTokenizer:
        """Return a tokenizer that knows every word of ``sentences``."""
        return cls(tuple(sorted({w for s in sentences for w in split_words(s)})), length)

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens, padding and "unknown" included."""
        return len(self.words) + 2

    def encode(self, sentence: str) -> NDArray[np.int64]:
        """Return (length,) tokens; words past ``length`` are dropped.

        Raises:
            TokenizerError: the sentence is empty, or this checkpoint knows no word of it.
        """
        index = {word: i + 2 for i, word in enumerate(self.words)}
        ids = [index.get(word, UNKNOWN) for word in split_words(sentence)]
        if not any(i > UNKNOWN for i in ids):
            raise TokenizerError(
                f"no word of the instruction {sentence[:80]!r} is known; "
                f"known are: {', '.join(self.words)}"
            )
        padded = (ids + [PAD] * self.length)[: self.length]
        return np.array(padded, dtype=np.int64)

    @property
    def hash(self) -> str:
        """Sha256 of the content, hex."""
        return content_hash(self._content())

    def save(self, folder: Path) -> None:
        """Write ``tokenizer/text.json`` in the checkpoint ``folder``."""
        write_specification(Path(folder) / FILE, self._content())

    @classmethod
    def load(cls, folder: Path) -> TextTokenizer:
        """Read it back; raises TokenizerError if missing, malformed or of another kind."""
        path = Path(folder) / FILE
        content = read_specification(path, KIND)
        with naming(path):
            fields = Fields(content, {"kind", "words", "length"})
            return cls(fields.names("words"), fields.integer("length"))

    def _content(self) -> dict[str, Any]:
        return {"kind": KIND, "words": list(self.words), "length": self.length}


EMU3_FILE, JSON_FILE = "emu3.tiktoken", "tokenizer.json"
# Emu3's pattern: github.com/baaivision/Emu3, emu3/mllm/tokenization_emu3.py.
EMU3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class TextEncoder(Protocol):
    """A sentence to tokens."""

    hash: str
    vocabulary_size: int

    def encode(self, sentence: str) -> NDArray[np.int64]:
        """Return (n,) tokens; raises TokenizerError if there is nothing to say."""


class Emu3Text:
    """Emu3's text tokenizer from ``emu3.tiktoken``: byte pairs, the lowest rank first.

    A line of the file is the base64 of a token's bytes and its rank, which is its id. Names of
    special tokens in a sentence are plain text here: an instruction cannot begin an image.
    """

    def __init__(self, path: Path) -> None:
        """Read the ranks.

        Raises:
            TokenizerError: the file is missing, a line is malformed, or a single byte or a rank
                is missing.
        """
        content = _read(path)
        self.hash = hashlib.sha256(content).hexdigest()
        self._ranks = dict(_ranks(content, path))
        single = all(bytes([byte]) in self._ranks for byte in range(256))
        if not single or sorted(self._ranks.values()) != list(range(len(self._ranks))):
            raise TokenizerError(f"{path} is not whole: copy the checkpoint again")

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens, special ones not counted."""
        return len(self._ranks)

    @cached_property
    def _splitter(self) -> tokenizers.pre_tokenizers.PreTokenizer:
        import tokenizers

        pattern = tokenizers.Regex(EMU3_PATTERN)
        return tokenizers.pre_tokenizers.Split(pattern, behavior="isolated")

    def encode(self, sentence: str) -> NDArray[np.int64]:
        """Return (n,) ids.

        Raises:
            TokenizerError: the sentence is empty.
        """
        _check(sentence)
        words = self._splitter.pre_tokenize_str(unicodedata.normalize("NFC", sentence))
        ids = [number for word, _ in words for number in self._merge(word.encode("utf-8"))]
        return np.array(ids, dtype=np.int64)

    def _merge(self, word: bytes) -> list[int]:
        """Return the ids of a word: join the neighbours of the lowest rank until none joins."""
        if word in self._ranks:
            return [self._ranks[word]]
        parts = [word[i : i + 1] for i in range(len(word))]
        while len(parts) > 1:
            pairs = [self._ranks.get(a + b, np.inf) for a, b in itertools.pairwise(parts)]
            at = int(np.argmin(pairs))
            if pairs[at] == np.inf:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [self._ranks[part] for part in parts]


class JsonText:
    """A ``tokenizer.json`` of the ``tokenizers`` library."""

    def __init__(self, path: Path) -> None:
        """Read the file; raises TokenizerError if it is missing or malformed."""
        import tokenizers

        content = _read(path)
        self.hash = hashlib.sha256(content).hexdigest()
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:
            raise TokenizerError(f"{path}: {error}: copy the checkpoint again") from error

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens, special ones included."""
        return self._tokenizer.get_vocab_size()

    def encode(self, sentence: str) -> NDArray[np.int64]:
        """Return (n,) ids, none added in front or behind; see ``Emu3Text.encode``."""
        _check(sentence)
        ids = self._tokenizer.encode(sentence, add_special_tokens=False).ids
        return np.array(ids, dtype=np.int64)


def text_file(folder: Path) -> Path | None:
    """Return the text tokenizer file that a checkpoint folder came with, if there is one."""
    folder = Path(folder)
    for name in (EMU3_FILE, JSON_FILE):
        for path in (folder / "tokenizer" / name, folder / name):
            if path.is_file():
                return path
    return None


def load_text_tokenizer(folder: Path) -> TextEncoder:
    """Return the text tokenizer of a checkpoint folder.

    In this order, each in ``tokenizer/`` or the folder itself: ``emu3.tiktoken``,
    ``tokenizer.json``; else the words of ``tokenizer/text.json``.

    Raises:
        TokenizerError: there is none, or it is malformed.
    """
    path = text_file(folder)
    if path is None:
        if not (Path(folder) / FILE).is_file():
            raise TokenizerError(
                f"{folder} has no text tokenizer: copy {EMU3_FILE} or {JSON_FILE} into it"
            )
        return TextTokenizer.load(folder)
    return Emu3Text(path) if path.name == EMU3_FILE else JsonText(path)


def _check(sentence: str) -> None:
    if not sentence.strip():
        raise TokenizerError("the instruction is empty: say what to do")


def _read(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TokenizerError(f"{path}: {error}: copy the checkpoint again") from error


def _ranks(content: bytes, path: Path) -> Iterator[tuple[bytes, int]]:
    for number, line in enumerate(content.splitlines(), start=1):
        if not line:
            continue
        words = line.split()
        try:
            token, rank = words
            yield base64.b64decode(token, validate=True), int(rank)
        except (ValueError, binascii.Error) as error:
            raise TokenizerError(
                f"{path}, line {number} is {line[:40]!r}: copy the checkpoint again"
            ) from error
