"""Action tokens on one grid over [-1, 1]: q01 and q99 of each joint are the ends."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens.codec import Array, DecodeReport, Tokens, check_vocabulary
from dfm_vla_ros.tokens.span import KEYS, Span, SpanCodec
from dfm_vla_ros.tokens.specification import Fields

KIND = "maat"


@dataclass(frozen=True)
class MaatTokenizer(SpanCodec):
    """Maps targets to K values from -1 to 1, as OpenVLA, UniVLA and DFM-VLA's MAAT do.

    With a value v (see ``Span``) and the span's ends, ``a = 2 (v - low) / (high - low) - 1``,
    clipped to [-1, 1], and ``token = rint((a + 1) / 2 (K - 1))``. The papers take q01 and q99 of
    the data for the ends and K = 2001; a gripper's ends are its least and largest target. Their
    actions are changes from step to step, with one pair of ends a joint; values here grow with
    the step, so that each step has its own.

    Round trip: at most ``(high - low) / (K - 1) / 2`` inside the span. A value outside is clipped
    to its end, which is all of the error beyond the 1st and 99th percentile. A corrupted token
    moves one joint at one step, within the span; every token means something, so none is
    malformed.

    Attributes:
        span: low and high are what -1 and 1 stand for.
        vocabulary_size: K.
    """

    kind: ClassVar[str] = KIND
    per_step: ClassVar[bool] = True
    span: Span
    vocabulary_size: int = 2001

    def __post_init__(self) -> None:
        """Check the vocabulary."""
        check_vocabulary(self.vocabulary_size, self.span.control_period_s)

    @classmethod
    def fit(
        cls,
        targets: Array,
        reference: Array,
        joint_names: tuple[str, ...],
        absolute: Collection[str],
        control_period_s: float,
        vocabulary_size: int = 2001,
        quantile: float = 0.01,
    ) -> MaatTokenizer:
        """Return a tokenizer for data like ``targets`` (F, H, D) and ``reference`` (F, D).

        Args:
            targets: targets [rad, m].
            reference: commanded positions at the observations.
            joint_names: the D joints.
            absolute: joints that do not count from the reference (grippers).
            control_period_s: time between steps [s].
            vocabulary_size: K.
            quantile: share of a relative joint's values cut off at each end; 0 keeps them all.
        """
        span = Span.fit(targets, reference, joint_names, absolute, control_period_s, quantile)
        return cls(span, vocabulary_size)

    @property
    def token_shape(self) -> tuple[int, ...]:
        """(H, D)."""
        return self.span.low.shape

    @property
    def bound(self) -> Array:
        """(H, D): half of the grid's step."""
        return self._width / 2

    @property
    def _width(self) -> Array:
        return (self.span.high - self.span.low) / (self.vocabulary_size - 1)

    def encode(self, targets: Array, reference: Array) -> Tokens:
        """Return tokens (..., H, D); see ``ActionCodec.encode``."""
        values = self.span.values(targets, reference)
        tokens = np.rint((values - self.span.low) / self._width)
        return np.clip(tokens, 0, self.vocabulary_size - 1).astype(np.int64)

    def decode_report(self, tokens: NDArray[np.integer], reference: Array) -> DecodeReport:
        """Return targets (..., H, D) [rad or m]; nothing is ever malformed."""
        values = self.span.low + self._arranged(tokens) * self._width
        targets = self.span.base(reference) + values
        return DecodeReport(targets, np.zeros(targets.shape[:-2], dtype=np.int64))

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Self:
        fields = Fields(content, KEYS | {"kind", "vocabulary_size"})
        return cls(Span.read(fields), fields.integer("vocabulary_size"))

    def _content(self) -> dict[str, Any]:
        content = self.span.content()
        return {"kind": KIND, "vocabulary_size": self.vocabulary_size, **content}
