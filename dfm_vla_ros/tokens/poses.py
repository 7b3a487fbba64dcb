"""Object poses as tokens, binned like proprioception, for policies that do without images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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

FILE = Path("tokenizer") / "poses.json"
KIND = "uniform_poses"
_MARGIN_SHARE, _LEAST_MARGIN = 0.05, 0.01


@dataclass(frozen=True)
class PoseTokenizer:
    """Maps P numbers to tokens: ``rint((K - 1) (x - lower) / (upper - lower))``.

    Attributes:
        names: of the numbers, such as ``pot.x`` (``sim.twin.Twin.pose_names``).
        lower: (P,) value of token 0: metres, or the cosine or sine of a yaw.
        upper: (P,) value of token K-1; what lies outside is clipped.
        vocabulary_size: K.
    """

    names: tuple[str, ...]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    vocabulary_size: int = 2048

    def __post_init__(self) -> None:
        """Check the bounds."""
        lower, upper = np.asarray(self.lower, float), np.asarray(self.upper, float)
        if lower.shape != (len(self.names),) or upper.shape != lower.shape:
            raise TokenizerError(f"bounds of poses must have shape ({len(self.names)},)")
        if not (upper > lower).all():
            raise TokenizerError(f"every upper bound must exceed its lower one: {lower}, {upper}")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    @classmethod
    def fit(cls, names: tuple[str, ...], poses: NDArray[np.float64]) -> PoseTokenizer:
        """Return bounds around ``poses`` (F, P), a twentieth of the span (0.01 at least) wider."""
        if np.ndim(poses) != 2 or np.shape(poses)[1] != len(names) or not len(poses):
            raise TokenizerError(
                f"poses have shape {np.shape(poses)}, expected (frames, {len(names)}): collect "
                "the demonstrations in the twin, which knows where its objects are"
            )
        low, high = poses.min(axis=0), poses.max(axis=0)
        margin = np.maximum(_MARGIN_SHARE * (high - low), _LEAST_MARGIN)
        return cls(tuple(names), np.round(low - margin, 4), np.round(high + margin, 4))

    def encode(self, poses: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return tokens (..., P) of ``poses`` (..., P).

        Raises:
            TokenizerError: a number is not finite.
        """
        if not np.isfinite(poses).all():
            name = self.names[int(np.argwhere(~np.isfinite(poses))[0][-1])]
            raise TokenizerError(f"pose {name} is not finite: check where it comes from")
        unit = (np.asarray(poses) - self.lower) / (self.upper - self.lower)
        return np.rint(np.clip(unit, 0, 1) * (self.vocabulary_size - 1)).astype(np.int64)

    @property
    def hash(self) -> str:
        """Sha256 of the content, hex."""
        return content_hash(self._content())

    def save(self, folder: Path) -> None:
        """Write ``tokenizer/poses.json`` in the checkpoint ``folder``."""
        write_specification(Path(folder) / FILE, self._content())

    @classmethod
    def load(cls, folder: Path) -> PoseTokenizer:
        """Read it back; raises TokenizerError if missing, malformed or of another kind."""
        path = Path(folder) / FILE
        content = read_specification(path, KIND)
        with naming(path):
            fields = Fields(content, {"kind", "names", "lower", "upper", "vocabulary_size"})
            return cls(
                fields.names("names"),
                fields.array("lower", 1),
                fields.array("upper", 1),
                fields.integer("vocabulary_size"),
            )

    def _content(self) -> dict[str, object]:
        return {
            "kind": KIND,
            "names": list(self.names),
            "lower": self.lower.tolist(),
            "upper": self.upper.tolist(),
            "vocabulary_size": self.vocabulary_size,
        }
