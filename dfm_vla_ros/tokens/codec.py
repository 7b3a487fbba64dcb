"""What every action tokenizer is: a chunk of targets to N tokens and back, under one hash."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

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


KEYS = {"joint_names", "absolute", "low", "high", "control_period_s"}
SMALLEST_SPAN = 0.01
"""[rad or m]: the span of a joint that never moved in the data is no smaller than this."""


@dataclass(frozen=True)
class Span:
    """The values of a chunk are targets less the reference; of absolute joints, the targets.

    Attributes:
        joint_names: the D joints.
        absolute: (D,) whether a joint's values do not count from the reference (grippers).
        low: (H, D) least value [rad, m].
        high: (H, D) largest value.
        control_period_s: time between steps [s].
    """

    joint_names: tuple[str, ...]
    absolute: tuple[bool, ...]
    low: Array
    high: Array
    control_period_s: float

    def __post_init__(self) -> None:
        """Check shapes and order."""
        low, high = np.asarray(self.low, np.float64), np.asarray(self.high, np.float64)
        count = len(self.joint_names)
        if low.ndim != 2 or not low.size or low.shape[1] != count or high.shape != low.shape:
            raise TokenizerError(
                f"low and high have shapes {low.shape} and {high.shape}, expected (horizon, "
                f"{count})"
            )
        if len(self.absolute) != count:
            raise TokenizerError(f"absolute has {len(self.absolute)} flags, expected {count}")
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (high > low).all()):
            raise TokenizerError("every high must be finite and exceed its low: fit again")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @classmethod
    def fit(
        cls,
        targets: Array,
        reference: Array,
        joint_names: tuple[str, ...],
        absolute: Collection[str],
        control_period_s: float,
        quantile: float = 0.0,
    ) -> Span:
        """Return the span of ``targets`` (F, H, D) seen from ``reference`` (F, D).

        Args:
            targets: targets [rad, m].
            reference: commanded positions at the observations.
            joint_names: the D joints.
            absolute: those that do not count from the reference; their span is the same at all
                steps and holds every target.
            control_period_s: time between steps [s].
            quantile: share of the values of a relative joint and step that lie below the span,
                and above it (0.01: from q01 to q99).
        """
        flags = tuple(name in absolute for name in joint_names)
        check_finite(targets, reference)
        values = targets - np.where(flags, 0, reference)[:, None]
        low, high = np.quantile(values, (quantile, 1 - quantile), axis=0)
        low[:, flags] = values[..., flags].min(axis=(0, 1))
        high[:, flags] = values[..., flags].max(axis=(0, 1))
        missing = np.maximum(SMALLEST_SPAN - (high - low), 0) / 2
        return cls(
            joint_names, flags, digits(low - missing), digits(high + missing), control_period_s
        )

    @property
    def horizon(self) -> int:
        """Number of steps H."""
        return int(self.low.shape[0])

    def values(self, targets: Array, reference: Array) -> Array:
        """Return the values (..., H, D) of ``targets`` (..., H, D).

        Raises:
            TokenizerError: another shape, or a number that is not finite.
        """
        targets = np.asarray(targets, np.float64)
        if targets.shape[-2:] != self.low.shape:
            raise TokenizerError(
                f"targets have shape {targets.shape}, expected (..., {self.horizon}, "
                f"{len(self.joint_names)})"
            )
        check_finite(targets, reference)
        return targets - self.base(reference)

    def base(self, reference: Array) -> Array:
        """Return (..., 1, D): what the values count from."""
        return np.where(self.absolute, 0, reference)[..., None, :]

    def stay(self, reference: Array) -> Array:
        """Return (..., H, D): the values of a chunk that stays at the reference."""
        values = np.where(self.absolute, reference, 0.0)[..., None, :]
        return np.clip(values, self.low, self.high)

    def clipped(self, values: Array, slack: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return values within the span, and which (..., H, D) were out by more than ``slack``."""
        slack = slack + 1e-9  # rounding
        outside = (values < self.low - slack) | (values > self.high + slack)
        return np.clip(values, self.low, self.high), outside

    def content(self) -> dict[str, Any]:
        """Return what a file says of the span."""
        return {
            "joint_names": list(self.joint_names),
            "absolute": list(self.absolute),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "control_period_s": self.control_period_s,
        }

    @classmethod
    def read(cls, fields: Fields) -> Span:
        """Return the span that a file's ``fields`` describe."""
        return cls(
            fields.names("joint_names"),
            fields.items("absolute", bool, "true or false"),
            fields.array("low", 2),
            fields.array("high", 2),
            fields.number("control_period_s"),
        )


class SpanCodec(ActionCodec):
    """An action tokenizer whose joints, steps and range are those of a ``span``."""

    span: Span

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The D joints."""
        return self.span.joint_names

    @property
    def control_period_s(self) -> float:
        """Time between steps [s]."""
        return self.span.control_period_s

    @property
    def horizon(self) -> int:
        """Number of steps H."""
        return self.span.horizon


def check_finite(targets: Array, reference: Array) -> None:
    """Raise TokenizerError if a number is not finite."""
    for name, values in (("targets", targets), ("reference", reference)):
        if not np.isfinite(values).all():
            raise TokenizerError(f"the {name} are not all finite: check the joint states")
