"""Object poses as tokens, binned like proprioception, for policies that do without images."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens.bins import Bins
from dfm_vla_ros.tokens.specification import TokenizerError

FILE = Path("tokenizer") / "poses.json"
_MARGIN_SHARE, _LEAST_MARGIN = 0.05, 0.01


class PoseTokenizer(Bins):
    """Bins of P numbers such as ``pot.x`` (``sim.twin.Twin.pose_names``).

    They are metres, or the cosine or sine of a yaw.
    """

    file = FILE
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
