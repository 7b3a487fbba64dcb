"""Numbers as tokens: uniform bins between two bounds each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

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


@dataclass(frozen=True)
class Bins:
    """Maps D numbers to tokens: ``rint((K - 1) (x - lower) / (upper - lower))``.

    Attributes:
        names: of the numbers.
        lower: (D,) value of token 0.
        upper: (D,) value of token K-1; what lies outside is clipped.
        vocabulary_size: K.
    """

    names: tuple[str, ...]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    vocabulary_size: int = 2048

    file: ClassVar[Path]
    """In a checkpoint folder."""
    kind: ClassVar[str]
    names_key: ClassVar[str] = "names"
    """Of the names in the file."""
    infinite: ClassVar[str]
    """What to say of the number {name} that is not finite."""

    def __post_init__(self) -> None:
        """Check the bounds."""
        lower, upper = np.asarray(self.lower, float), np.asarray(self.upper, float)
        if lower.shape != (len(self.names),) or upper.shape != lower.shape:
            raise TokenizerError(f"bounds must have shape ({len(self.names)},)")
        if not (upper > lower).all():
            raise TokenizerError(f"every upper bound must exceed its lower one: {lower}, {upper}")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    def encode(self, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return tokens (..., D) of ``numbers`` (..., D).

        Raises:
            TokenizerError: a number is not finite.
        """
        if not np.isfinite(numbers).all():
            name = self.names[int(np.argwhere(~np.isfinite(numbers))[0][-1])]
            raise TokenizerError(self.infinite.format(name=name))
        unit = (np.asarray(numbers) - self.lower) / (self.upper - self.lower)
        return np.rint(np.clip(unit, 0, 1) * (self.vocabulary_size - 1)).astype(np.int64)

    @property
    def hash(self) -> str:
        """Sha256 of the content, hex."""
        return content_hash(self._content())

    def save(self, folder: Path) -> None:
        """Write ``file`` in the checkpoint ``folder``."""
        write_specification(Path(folder) / self.file, self._content())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read it back; raises TokenizerError if missing, malformed or of another kind."""
        path = Path(folder) / cls.file
        content = read_specification(path, cls.kind)
        with naming(path):
            keys = {"kind", cls.names_key, "lower", "upper", "vocabulary_size"}
            fields = Fields(content, keys)
            return cls(
                fields.names(cls.names_key),
                fields.array("lower", 1),
                fields.array("upper", 1),
                fields.integer("vocabulary_size"),
            )

    def _content(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            self.names_key: list(self.names),
            "lower": self.lower.tolist(),
            "upper": self.upper.tolist(),
            "vocabulary_size": self.vocabulary_size,
        }


FILE = Path("tokenizer") / "proprioception.json"


class ProprioceptionTokenizer(Bins):
    """Bins of D joint positions [rad], grippers [m]."""

    file = FILE
    kind = "uniform_absolute"
    names_key = "joint_names"
    infinite = "position of {name} is not finite: check the joint states"

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The D joints."""
        return self.names


FILE_POSES = Path("tokenizer") / "poses.json"
_MARGIN_SHARE, _LEAST_MARGIN = 0.05, 0.01


class PoseTokenizer(Bins):
    """Bins of P numbers such as ``pot.x`` (``sim.twin.Twin.pose_names``).

    They are metres, or the cosine or sine of a yaw.
    """

    file = FILE_POSES
    kind = "uniform_poses"
    infinite = "pose {name} is not finite: check where it comes from"

    @classmethod
    def fit(cls, names: tuple[str, ...], poses: NDArray[np.float64]) -> Self:
        """Return bounds around ``poses`` (F, P), a twentieth of the span (0.01 at least) wider."""
        if np.ndim(poses) != 2 or np.shape(poses)[1] != len(names) or not len(poses):
            raise TokenizerError(
                f"poses have shape {np.shape(poses)}, expected (frames, {len(names)}): collect "
                "the demonstrations in the twin, which knows where its objects are"
            )
        low, high = poses.min(axis=0), poses.max(axis=0)
        margin = np.maximum(_MARGIN_SHARE * (high - low), _LEAST_MARGIN)
        return cls(tuple(names), np.round(low - margin, 4), np.round(high + margin, 4))
