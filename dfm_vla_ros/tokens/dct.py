"""Action tokens in frequency: bins of each joint's DCT coefficients over the chunk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens.codec import (
    KEYS,
    Array,
    DecodeReport,
    Span,
    SpanCodec,
    Tokens,
    check_vocabulary,
    digits,
)
from dfm_vla_ros.tokens.specification import Fields, TokenizerError

KIND = "dct"
SMALLEST_WIDTH = 1e-4
"""[rad or m]: bins of a coefficient that is always zero are no narrower than this."""


def dct_basis(horizon: int, count: int) -> Array:
    """Return (count, H): the first rows of the orthonormal DCT-II, low frequencies first."""
    k, t = np.arange(count)[:, None], np.arange(horizon)
    rows = np.sqrt(2 / horizon) * np.cos(np.pi * k * (2 * t + 1) / (2 * horizon))
    rows[0] /= np.sqrt(2)
    return rows


def block_basis(horizon: int, count: int) -> Array:
    """Return (count, H): orthonormal means over ``count`` consecutive blocks of steps."""
    rows = np.zeros((count, horizon))
    for row, steps in zip(rows, np.array_split(np.arange(horizon), count), strict=True):
        row[steps] = 1 / np.sqrt(len(steps))
    return rows


@dataclass(frozen=True)
class DctTokenizer(SpanCodec):
    """Maps the first C of H coefficients of each joint to K bins; for long, smooth chunks.

    The values v (see ``Span``) of a joint become ``c = B v`` with B (C, H) the orthonormal DCT-II
    for relative joints; for absolute ones (grippers, which switch) means over C blocks of steps.
    ``token = rint((c - middle) / width) + K // 2``, clipped, with a width for each coefficient and
    joint. "Stay" is exact: all coefficients zero. Tokens are in the order (C, D), low frequencies
    first.

    Round trip: ``|B|^T width / 2`` where no coefficient is clipped, plus what the H - C dropped
    coefficients held. A corrupted token of a relative joint bends that joint's whole chunk, by at
    most ``max |B_k|`` times its coefficient's range; of a gripper, one block of steps. Targets
    that leave the span of the data are clipped to it, and counted as malformed.

    Attributes:
        span: targets are clipped to it.
        widths: (C, D) bin widths of the coefficients [rad], grippers [m].
        middle: (C, D) coefficient that token K // 2 stands for.
        vocabulary_size: K.
    """

    kind: ClassVar[str] = KIND
    per_step: ClassVar[bool] = False
    span: Span
    widths: Array
    middle: Array
    vocabulary_size: int = 256

    def __post_init__(self) -> None:
        """Check shapes and numbers."""
        check_vocabulary(self.vocabulary_size, self.span.control_period_s)
        horizon, joints = self.span.low.shape
        widths, middle = np.asarray(self.widths, float), np.asarray(self.middle, float)
        if widths.ndim != 2 or widths.shape[1] != joints or middle.shape != widths.shape:
            raise TokenizerError(
                f"widths and middle have shapes {widths.shape} and {middle.shape}, expected "
                f"(coefficients, {joints})"
            )
        if not 1 <= len(widths) <= horizon:
            raise TokenizerError(f"{len(widths)} coefficients; a chunk has 1 to {horizon}")
        if not (np.isfinite(middle).all() and np.isfinite(widths).all() and (widths > 0).all()):
            raise TokenizerError("widths must be finite and positive: fit the tokenizer again")

    @classmethod
    def fit(
        cls,
        targets: Array,
        reference: Array,
        joint_names: tuple[str, ...],
        absolute: Collection[str],
        control_period_s: float,
        vocabulary_size: int = 256,
        coefficients: int | None = None,
        quantile: float = 0.9995,
    ) -> DctTokenizer:
        """Return a tokenizer for data like ``targets`` (F, H, D) and ``reference`` (F, D).

        Args:
            targets: targets [rad, m].
            reference: commanded positions at the observations.
            joint_names: the D joints.
            absolute: joints that do not count from the reference (grippers).
            control_period_s: time between steps [s].
            vocabulary_size: K.
            coefficients: C, the low frequencies to keep; None: all H.
            quantile: share of the data that each coefficient's range holds.
        """
        span = Span.fit(targets, reference, joint_names, absolute, control_period_s)
        count = span.horizon if coefficients is None else coefficients
        if not 1 <= count <= span.horizon:
            raise TokenizerError(f"{count} coefficients; a chunk has 1 to {span.horizon}")
        basis = _bases(span, count)
        spectrum = np.einsum("jch,fhj->fcj", basis, span.values(targets, reference))
        reach = np.quantile(np.abs(spectrum), quantile, axis=0)
        widths = digits(np.maximum(reach / max(vocabulary_size // 2 - 1, 1), SMALLEST_WIDTH))
        middle = np.zeros_like(widths)
        flags = np.array(span.absolute, dtype=bool)
        low, high = (spectrum[..., flags].min(axis=0), spectrum[..., flags].max(axis=0))
        widths[:, flags] = digits(np.maximum((high - low) / (vocabulary_size - 1), 1e-6))
        middle[:, flags] = low + vocabulary_size // 2 * widths[:, flags]
        return cls(span, widths, digits(middle), vocabulary_size)

    @property
    def token_shape(self) -> tuple[int, ...]:
        """(C * D,)."""
        return (self.widths.size,)

    @cached_property
    def bound(self) -> Array:
        """(H, D): all coefficients half a bin off, what is dropped not counted."""
        return np.einsum("jch,cj->hj", np.abs(self._basis), self.widths / 2)

    @cached_property
    def _basis(self) -> Array:
        return _bases(self.span, len(self.widths))

    def encode(self, targets: Array, reference: Array) -> Tokens:
        """Return tokens (..., C * D); see ``ActionCodec.encode``."""
        values = self.span.values(targets, reference)
        spectrum = np.einsum("jch,...hj->...cj", self._basis, values)
        tokens = np.rint((spectrum - self.middle) / self.widths) + self.vocabulary_size // 2
        clipped = np.clip(tokens, 0, self.vocabulary_size - 1).astype(np.int64)
        return clipped.reshape(*clipped.shape[:-2], -1)

    def decode_report(self, tokens: NDArray[np.integer], reference: Array) -> DecodeReport:
        """Return targets (..., H, D); malformed are the values that left the span."""
        flat = self._arranged(tokens)
        steps = flat.reshape(*flat.shape[:-1], *self.widths.shape) - self.vocabulary_size // 2
        spectrum = self.middle + steps * self.widths
        values = np.einsum("jch,...cj->...hj", self._basis, spectrum)
        values, outside = self.span.clipped(values, self.bound)
        return DecodeReport(self.span.base(reference) + values, outside.sum(axis=(-2, -1)))

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Self:
        fields = Fields(content, KEYS | {"kind", "widths", "middle", "vocabulary_size"})
        return cls(
            Span.read(fields),
            fields.array("widths", 2),
            fields.array("middle", 2),
            fields.integer("vocabulary_size"),
        )

    def _content(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "widths": self.widths.tolist(),
            "middle": self.middle.tolist(),
            "vocabulary_size": self.vocabulary_size,
            **self.span.content(),
        }


def _bases(span: Span, count: int) -> Array:
    """Return (D, C, H): the transform of every joint."""
    waves, blocks = dct_basis(span.horizon, count), block_basis(span.horizon, count)
    return np.stack([blocks if absolute else waves for absolute in span.absolute])
