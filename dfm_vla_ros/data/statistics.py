"""Statistics of columns: exact for numbers, from per-episode histograms for images.

The quantiles of a whole data set's images cannot be had from those of its episodes; as in LeRobot
the smallest is taken up to q50 and the largest above, which bounds them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Statistics = dict[str, NDArray]
"""min, max, mean, std, count and the quantiles of one feature."""

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
LARGEST_SIDE = 150
"""Images are thinned out to about so many pixels a side [px]."""
MOST_IMAGES = 100
"""Of one camera and episode."""


def of_numbers(values: NDArray) -> Statistics:
    """Return the exact statistics of a column (F, D) over its frames; quantiles interpolate."""
    values = np.asarray(values, np.float64)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        "count": np.array([len(values)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def of_images(images: NDArray[np.uint8]) -> Statistics:
    """Return the statistics of each colour (3, 1, 1), in [0, 1], of images (T, H, W, 3).

    Long episodes and large images are thinned out evenly, see :data:`MOST_IMAGES`.
    """
    chosen = np.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).round().astype(int)
    stride = max(1, max(images.shape[1:3]) // LARGEST_SIDE)
    pixels = images[chosen, ::stride, ::stride]
    counts = [np.bincount(pixels[..., c].ravel(), minlength=256) for c in range(3)]
    parts = [_of_histogram(count) for count in counts]
    found = {k: np.array([part[k] for part in parts]).reshape(3, 1, 1) / 255 for k in parts[0]}
    return found | {"count": np.array([len(chosen)])}


def _of_histogram(counts: NDArray[np.int64]) -> dict[str, float]:
    """Return the statistics of the values 0..255 that occur ``counts`` (256,) times."""
    values, total = np.arange(256), counts.sum()
    present = np.flatnonzero(counts)
    mean = counts @ values / total
    below = np.cumsum(counts)
    return {
        "min": present[0],
        "max": present[-1],
        "mean": mean,
        "std": np.sqrt(counts @ (values - mean) ** 2 / total),
        **{name: np.searchsorted(below, q * total) for name, q in QUANTILES.items()},
    }


def merge(parts: Sequence[Statistics]) -> Statistics:
    """Return the statistics of all parts together; quantiles are bounds (see the module)."""
    stacked = {name: np.stack([part[name] for part in parts]) for name in NAMES}
    count = stacked["count"].reshape(-1, *[1] * (stacked["mean"].ndim - 1))
    mean = (stacked["mean"] * count).sum(0) / count.sum()
    spread = stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2
    return {
        "min": stacked["min"].min(0),
        "max": stacked["max"].max(0),
        "mean": mean,
        "std": np.sqrt((spread * count).sum(0) / count.sum()),
        "count": stacked["count"].sum(0),
        **{
            name: stacked[name].min(0) if q <= 0.5 else stacked[name].max(0)
            for name, q in QUANTILES.items()
        },
    }
