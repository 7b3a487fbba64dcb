"""What every action tokenizer is: a chunk of targets to N tokens and back, under one hash."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens.specification import (
    TokenizerError,
    content_hash,
    naming,
    read_specification,
    write_specification,
)

FILE = Path("tokenizer") / "action.json"

Array = NDArray[np.float64]
Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class DecodeReport:
    """Decoded chunks, and how much of them no encoder would have written.

    Attributes:
        targets: (..., H, D) [rad], grippers [m]; always finite.
        malformed: (...) parts that were clipped, ignored or filled in, 0 for a sound chunk.
    """

    targets: Array
    malformed: NDArray[np.int64]


class ActionCodec(ABC):
    """An action tokenizer; the kinds differ in what a token stands for.

    Attributes:
        kind: name in the file.
        per_step: whether row k of the tokens (H, D) belongs to step k alone, so that a prefix of
            the chunk can be held while the rest is refined.
        joint_names: the D joints.
        vocabulary_size: K; tokens are 0..K-1.
        control_period_s: time between steps [s].
    """

    kind: ClassVar[str]
    per_step: ClassVar[bool]
    joint_names: tuple[str, ...]
    vocabulary_size: int
    control_period_s: float

    @property
    @abstractmethod
    def horizon(self) -> int:
        """Number of steps H."""

    @property
    @abstractmethod
    def token_shape(self) -> tuple[int, ...]:
        """Shape of a chunk's tokens: (H, D) if ``per_step``, else (N,)."""

    @property
    @abstractmethod
    def bound(self) -> Array:
        """(H, D) largest error of a round trip [rad, m] where nothing is clipped or cut off."""

    @abstractmethod
    def encode(self, targets: Array, reference: Array) -> Tokens:
        """Return tokens (..., *token_shape) of ``targets`` (..., H, D) [rad, m].

        Args:
            targets: what each joint is to reach at each step.
            reference: (..., D) commanded positions at the observation.

        Raises:
            TokenizerError: a target or a reference is not finite, or of another shape.
        """

    @abstractmethod
    def decode_report(self, tokens: NDArray[np.integer], reference: Array) -> DecodeReport:
        """Return targets and the number of malformed parts; see ``decode``."""

    @abstractmethod
    def _content(self) -> dict[str, Any]:
        """Return what the file holds."""

    @classmethod
    @abstractmethod
    def _from_content(cls, content: dict[str, Any]) -> Self:
        """Build the tokenizer from what the file holds, checking types."""

    @property
    def token_count(self) -> int:
        """Tokens of a chunk, N."""
        return int(np.prod(self.token_shape))

    @cached_property
    def hash(self) -> str:
        """Sha256 of the content, hex: what the messages carry."""
        return content_hash(self._content())

    def decode(self, tokens: NDArray[np.integer], reference: Array) -> Array:
        """Return targets (..., H, D) [rad or m] of tokens (..., N) or (..., *token_shape).

        Tokens in 0..K-1 always decode, however they were corrupted.

        Raises:
            TokenizerError: a token is out of vocabulary, or the shape is another.
        """
        return self.decode_report(tokens, reference).targets

    def save(self, folder: Path) -> None:
        """Write ``tokenizer/action.json`` in the checkpoint ``folder``."""
        write_specification(Path(folder) / FILE, self._content())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``tokenizer/action.json`` of the checkpoint ``folder``.

        Raises:
            TokenizerError: the file is missing, malformed or of another kind.
        """
        path = Path(folder) / FILE
        content = read_specification(path, cls.kind)
        with naming(path):
            return cls._from_content(content)

    def _arranged(self, tokens: NDArray[np.integer]) -> Tokens:
        """Return ``tokens`` as (..., *token_shape), all in the vocabulary."""
        tokens, shape = np.asarray(tokens), self.token_shape
        if tokens.shape[-len(shape) :] != shape:
            if tokens.shape[-1:] != (self.token_count,):
                expected = ", ".join(map(str, shape))
                raise TokenizerError(
                    f"tokens have shape {tokens.shape}, expected (..., {expected})"
                )
            tokens = tokens.reshape(*tokens.shape[:-1], *shape)
        if tokens.dtype.kind not in "iu":
            raise TokenizerError(f"tokens are {tokens.dtype}, expected integers")
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.vocabulary_size:
            raise TokenizerError(
                f"tokens span {tokens.min()}..{tokens.max()}, allowed are "
                f"0..{self.vocabulary_size - 1}: policy and executor must load one checkpoint"
            )
        return tokens.astype(np.int64)


def check_vocabulary(vocabulary_size: int, control_period_s: float) -> None:
    """Raise TokenizerError unless both are usable."""
    if not 2 <= vocabulary_size <= 65536 or not 0 < control_period_s < np.inf:
        raise TokenizerError(
            f"vocabulary_size {vocabulary_size} must be 2..65536 and "
            f"control_period_s {control_period_s} positive"
        )


def digits(values: Array | float) -> Array:
    """Round to six significant digits, so that the file reads well."""
    return np.vectorize(lambda value: float(f"{value:.6g}"), otypes=[np.float64])(values)
