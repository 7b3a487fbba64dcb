"""Action tokens: one a step and joint, uniform bins; arms relative, grippers absolute."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens.specification import (
    TokenizerError,
    content_hash,
    read_specification,
    write_specification,
)

FILE = Path("tokenizer") / "action.json"
KIND = "uniform"
SMALLEST_WIDTH = 1e-4
"""[rad or m]: bins of a joint that never moved in the data are no narrower than this."""


@dataclass(frozen=True)
class ActionTokenizer:
    """Maps targets to tokens in 0..K-1 and back.

    With K bins of width w for step k and joint j, ``target = base_j + (token - K // 2) w_kj``. The
    base of a relative joint is its commanded position at the observation, so "stay" is a token of
    its own; the base of an absolute joint (a gripper) is fixed: how far it is closed does not
    depend on a belief about where it is. Round trip: at most w / 2 inside the range, clipped at
    its ends.

    Attributes:
        joint_names: the D joints.
        widths: (H, D) bin widths [rad], grippers [m].
        middle: (D,) base of the absolute joints [m], NaN marks a relative one.
        vocabulary_size: K.
        control_period_s: time between steps [s].
    """

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
        if not 2 <= self.vocabulary_size <= 65536 or not self.control_period_s > 0:
            raise TokenizerError(
                f"vocabulary_size {self.vocabulary_size} must be 2..65536 and "
                f"control_period_s {self.control_period_s} positive"
            )
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
        widths = np.maximum(reach / (half - 1), SMALLEST_WIDTH)
        middle = np.full(len(joint_names), np.nan)
        for joint in (joint_names.index(name) for name in absolute):
            low, high = targets[..., joint].min(), targets[..., joint].max()
            widths[:, joint] = _digits(max((high - low) / (vocabulary_size - 1), 1e-6))
            middle[joint] = low + half * widths[0, joint]
        return cls(joint_names, _digits(widths), middle, vocabulary_size, control_period_s)

    @property
    def horizon(self) -> int:
        """Number of steps H."""
        return int(self.widths.shape[0])

    @property
    def hash(self) -> str:
        """Sha256 of the content, hex: what the messages carry."""
        return content_hash(self._content())

    def encode(
        self, targets: NDArray[np.float64], reference: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Return tokens (..., H, D) for ``targets`` (..., H, D) and ``reference`` (..., D)."""
        bins = np.rint((targets - self._base(reference)) / self.widths)
        tokens = bins.astype(np.int64) + self.vocabulary_size // 2
        return np.clip(tokens, 0, self.vocabulary_size - 1)

    def decode(
        self, tokens: NDArray[np.integer], reference: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return targets (..., H, D) [rad or m].

        Raises:
            TokenizerError: a token is out of vocabulary, or the shape is not (..., H, D).
        """
        tokens = np.asarray(tokens)
        if tokens.shape[-2:] != self.widths.shape:
            raise TokenizerError(
                f"tokens have shape {tokens.shape}, expected (..., {self.horizon}, "
                f"{len(self.joint_names)})"
            )
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.vocabulary_size:
            raise TokenizerError(
                f"tokens span {tokens.min()}..{tokens.max()}, allowed are "
                f"0..{self.vocabulary_size - 1}: policy and executor must load one checkpoint"
            )
        steps = tokens.astype(np.int64) - self.vocabulary_size // 2
        return self._base(reference) + steps * self.widths

    def _base(self, reference: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (..., 1, D): what the tokens count from."""
        return np.where(np.isnan(self.middle), reference, self.middle)[..., None, :]

    def save(self, folder: Path) -> None:
        """Write ``tokenizer/action.json`` in the checkpoint ``folder``."""
        write_specification(Path(folder) / FILE, self._content())

    @classmethod
    def load(cls, folder: Path) -> ActionTokenizer:
        """Read ``tokenizer/action.json`` of the checkpoint ``folder``.

        Raises:
            TokenizerError: the file is missing, malformed or of another kind.
        """
        content = read_specification(Path(folder) / FILE, KIND)
        try:
            return cls(
                tuple(content["joint_names"]),
                np.array(content["widths"], dtype=np.float64),
                np.array(content["middle"], dtype=np.float64),
                int(content["vocabulary_size"]),
                float(content["control_period_s"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TokenizerError(f"{Path(folder) / FILE}: {error!r}") from error

    def _content(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "joint_names": list(self.joint_names),
            "widths": self.widths.tolist(),
            "middle": [None if np.isnan(m) else m for m in self.middle.tolist()],
            "vocabulary_size": self.vocabulary_size,
            "control_period_s": self.control_period_s,
        }


def _digits(values: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Round to six significant digits, so that the file reads well."""
    return np.vectorize(lambda value: float(f"{value:.6g}"))(values)
