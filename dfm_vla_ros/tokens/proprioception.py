"""Proprioception as tokens: uniform bins between two bounds a joint."""

from __future__ import annotations

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

FILE = Path("tokenizer") / "proprioception.json"
KIND = "uniform_absolute"


@dataclass(frozen=True)
class ProprioceptionTokenizer:
    """Maps D joint positions to tokens: ``rint((K - 1) (q - lower) / (upper - lower))``.

    Attributes:
        joint_names: the D joints.
        lower: (D,) value of token 0 [rad], grippers [m].
        upper: (D,) value of token K-1; readings outside are clipped.
        vocabulary_size: K.
    """

    joint_names: tuple[str, ...]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    vocabulary_size: int = 2048

    def __post_init__(self) -> None:
        """Check the bounds."""
        lower, upper = np.asarray(self.lower, float), np.asarray(self.upper, float)
        if lower.shape != (len(self.joint_names),) or upper.shape != lower.shape:
            raise TokenizerError(f"bounds must have shape ({len(self.joint_names)},)")
        if not (upper > lower).all():
            raise TokenizerError(f"every upper bound must exceed its lower one: {lower}, {upper}")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    def encode(self, positions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return tokens (..., D) of ``positions`` (..., D).

        Raises:
            TokenizerError: a position is not finite.
        """
        if not np.isfinite(positions).all():
            joint = self.joint_names[int(np.argwhere(~np.isfinite(positions))[0][-1])]
            raise TokenizerError(f"position of {joint} is not finite: check the joint states")
        unit = (np.asarray(positions) - self.lower) / (self.upper - self.lower)
        return np.rint(np.clip(unit, 0, 1) * (self.vocabulary_size - 1)).astype(np.int64)

    @property
    def hash(self) -> str:
        """Sha256 of the content, hex."""
        return content_hash(self._content())

    def save(self, folder: Path) -> None:
        """Write ``tokenizer/proprioception.json`` in the checkpoint ``folder``."""
        write_specification(Path(folder) / FILE, self._content())

    @classmethod
    def load(cls, folder: Path) -> ProprioceptionTokenizer:
        """Read it back; raises TokenizerError if missing, malformed or of another kind."""
        path = Path(folder) / FILE
        content = read_specification(path, KIND)
        with naming(path):
            keys = {"kind", "joint_names", "lower", "upper", "vocabulary_size"}
            fields = Fields(content, keys)
            return cls(
                fields.names("joint_names"),
                fields.array("lower", 1),
                fields.array("upper", 1),
                fields.integer("vocabulary_size"),
            )

    def _content(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "joint_names": list(self.joint_names),
            "lower": self.lower.tolist(),
            "upper": self.upper.tolist(),
            "vocabulary_size": self.vocabulary_size,
        }
