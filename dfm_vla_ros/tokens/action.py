"""Action tokens: one a step and joint, uniform bins; arms relative, grippers absolute."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens.codec import (
    KEYS,
    ActionCodec,
    Array,
    DecodeReport,
    Span,
    SpanCodec,
    Tokens,
    check_finite,
    check_vocabulary,
    digits,
)
from dfm_vla_ros.tokens.specification import Fields, TokenizerError

KIND = "uniform"
SMALLEST_WIDTH = 1e-4
"""[rad or m]: bins of a joint that never moved in the data are no narrower than this."""


@dataclass(frozen=True)
class ActionTokenizer(ActionCodec):
    """Maps targets to tokens in 0..K-1 and back.

    With K bins of width w for step k and joint j, ``target = base_j + (token - K // 2) w_kj``. The
    base of a relative joint is its commanded position at the observation, so "stay" is a token of
    its own; the base of an absolute joint (a gripper) is fixed: how far it is closed does not
    depend on a belief about where it is. Round trip: at most w / 2 inside the range, clipped at
    its ends. A corrupted token moves one joint at one step, within the range; every token means
    something, so none is malformed.

    Attributes:
        joint_names: the D joints.
        widths: (H, D) bin widths [rad], grippers [m].
        middle: (D,) base of the absolute joints [m], NaN marks a relative one.
        vocabulary_size: K.
        control_period_s: time between steps [s].
    """

    kind: ClassVar[str] = KIND
    per_step: ClassVar[bool] = True
    joint_names: tuple[str, ...]
    widths: NDArray[np.float64]
    middle: NDArray[np.float64]
    vocabulary_size: int
    control_period_s: float

    def __post_init__(self) -> None:
        """Check that the widths fit the joints and that every number is usable."""
        widths = np.asarray(self.widths, dtype=np.float64)
        if widths.ndim != 2 or widths.shape[1] != len(self.joint_names):
            raise TokenizerError(
                f"widths have shape {widths.shape}, expected (horizon, {len(self.joint_names)})"
            )
        middle = np.asarray(self.middle, dtype=np.float64)
        if middle.shape != (len(self.joint_names),) or np.isinf(middle).any():
            raise TokenizerError(f"middle is {middle}, expected {len(self.joint_names)} numbers")
        if not (np.isfinite(widths).all() and (widths > 0).all()):
            raise TokenizerError("bin widths must be finite and positive: fit the tokenizer again")
        check_vocabulary(self.vocabulary_size, self.control_period_s)
        object.__setattr__(self, "widths", widths)
        object.__setattr__(self, "middle", middle)

    @classmethod
    def fit(
        cls,
        targets: NDArray[np.float64],
        reference: NDArray[np.float64],
        joint_names: tuple[str, ...],
        absolute: Collection[str],
        control_period_s: float,
        vocabulary_size: int = 256,
        quantile: float = 0.9995,
    ) -> ActionTokenizer:
        """Return a tokenizer for data like ``targets`` (F, H, D) and ``reference`` (F, D).

        The range of a relative joint holds ``quantile`` of the distances of its step; that of the
        joints named in ``absolute`` goes from the least to the largest target.
        """
        half = vocabulary_size // 2
        reach = np.quantile(np.abs(targets - reference[:, None]), quantile, axis=0)
        widths = np.maximum(reach / max(half - 1, 1), SMALLEST_WIDTH)
        middle = np.full(len(joint_names), np.nan)
        for joint in (joint_names.index(name) for name in absolute):
            low, high = targets[..., joint].min(), targets[..., joint].max()
            widths[:, joint] = digits(max((high - low) / (vocabulary_size - 1), 1e-6))
            middle[joint] = low + half * widths[0, joint]
        return cls(joint_names, digits(widths), middle, vocabulary_size, control_period_s)

    @property
    def horizon(self) -> int:
        """Number of steps H."""
        return int(self.widths.shape[0])

    @property
    def token_shape(self) -> tuple[int, ...]:
        """(H, D)."""
        return self.widths.shape

    @property
    def bound(self) -> Array:
        """(H, D): half a bin."""
        return self.widths / 2

    def encode(self, targets: Array, reference: Array) -> Tokens:
        """Return tokens (..., H, D) for ``targets`` (..., H, D) and ``reference`` (..., D).

        Raises:
            TokenizerError: a target or a reference is not finite.
        """
        check_finite(targets, reference)
        bins = np.rint((targets - self._base(reference)) / self.widths)
        tokens = bins + self.vocabulary_size // 2
        return np.clip(tokens, 0, self.vocabulary_size - 1).astype(np.int64)

    def decode_report(self, tokens: NDArray[np.integer], reference: Array) -> DecodeReport:
        """Return targets (..., H, D) [rad or m]; nothing is ever malformed."""
        steps = self._arranged(tokens) - self.vocabulary_size // 2
        targets = self._base(reference) + steps * self.widths
        return DecodeReport(targets, np.zeros(targets.shape[:-2], dtype=np.int64))

    def _base(self, reference: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (..., 1, D): what the tokens count from."""
        return np.where(np.isnan(self.middle), reference, self.middle)[..., None, :]

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> Self:
        keys = {"kind", "joint_names", "widths", "middle", "vocabulary_size", "control_period_s"}
        fields = Fields(content, keys)
        return cls(
            fields.names("joint_names"),
            fields.array("widths", 2),
            fields.array("middle", 1, nulls=True),
            fields.integer("vocabulary_size"),
            fields.number("control_period_s"),
        )

    def _content(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "joint_names": list(self.joint_names),
            "widths": self.widths.tolist(),
            "middle": [None if np.isnan(m) else m for m in self.middle.tolist()],
            "vocabulary_size": self.vocabulary_size,
            "control_period_s": self.control_period_s,
        }


KIND_MAAT = "maat"


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

    kind: ClassVar[str] = KIND_MAAT
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
        return {"kind": KIND_MAAT, "vocabulary_size": self.vocabulary_size, **content}
