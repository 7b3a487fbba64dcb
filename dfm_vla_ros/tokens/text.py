"""Instruction words as tokens: those of the demonstrations, "unknown" and padding."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
