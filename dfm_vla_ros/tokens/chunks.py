"""Chunks of a demonstration: the targets of the next steps at every frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def next_targets(targets: NDArray[np.float64], horizon: int) -> NDArray[np.float64]:
    """Return (T, H, D): ``targets[t + k]``, k = 1..H; past the end the last one repeats."""
    steps = np.arange(len(targets))[:, None] + np.arange(1, horizon + 1)
    return targets[np.minimum(steps, len(targets) - 1)]
