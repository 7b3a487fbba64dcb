"""Statistics agree with NumPy on all the values."""

from __future__ import annotations

import numpy as np
import pytest

from dfm_vla_ros.data.index import QUANTILES, merge, of_images, of_numbers


def test_that_images_are_counted_by_colour_as_numpy_would() -> None:
    images = np.random.default_rng(0).integers(0, 200, (7, 12, 16, 3), np.uint8)
    images[..., 1] //= 2
    found = of_images(images)
    values = images.reshape(-1, 3).astype(float) / 255
    for name, expected in {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
        **{n: np.quantile(values, q, 0, method="inverted_cdf") for n, q in QUANTILES.items()},
    }.items():
        np.testing.assert_allclose(found[name].ravel(), expected, rtol=1e-12, err_msg=name)
    assert found["count"] == [7]


def test_that_parts_merge_into_the_whole_and_quantiles_into_bounds() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.normal(i, 1 + i, (20 + 10 * i, 3)) for i in range(3)]
    merged, whole = merge([of_numbers(part) for part in parts]), of_numbers(np.concatenate(parts))
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(merged[name], whole[name], rtol=1e-12, err_msg=name)
    assert (merged["q01"] <= whole["q01"]).all()
    assert (merged["q99"] >= whole["q99"]).all()


def test_that_large_images_and_long_episodes_are_thinned_out() -> None:
    images = np.zeros((120, 300, 320, 3), np.uint8)
    images[:, :, 160:] = 255
    found = of_images(images)
    assert found["count"] == [100]
    assert found["mean"].ravel() == pytest.approx([0.5] * 3, abs=0.01)
