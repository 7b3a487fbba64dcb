"""The small parts of the loop: schedules, averages, durable folders, augmentation, prefetching."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from demonstrations import small_run

from dfm_vla_ros.training.config import AugmentationConfig
from dfm_vla_ros.training.frames import changed, shifted, version_name
from dfm_vla_ros.training.loop import Prefetch
from dfm_vla_ros.training.optimiser import Average, rate_factor, warmup_cosine
from dfm_vla_ros.training.run_folder import recover, replaced


def test_that_the_schedule_warms_up_and_ends_at_a_hundredth() -> None:
    factors = [warmup_cosine(step, 10, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(0.01, abs=1e-3)


def test_that_the_schedule_follows_time_where_that_is_further() -> None:
    config = small_run(Path("x"), steps=1000, warmup_steps=10, max_seconds=100.0)
    assert rate_factor(config, 500, 0.0) == pytest.approx(warmup_cosine(499, 10, 1000))
    assert rate_factor(config, 20, 100.0) == pytest.approx(0.01)
    assert rate_factor(config, 5, 100.0) == pytest.approx(0.5), "warm-up is counted in steps"


def test_that_the_average_is_that_of_its_recursion_and_is_applied_for_a_while() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    average, expected = Average(network, 0.9), 0.0
    for step in range(1, 30):
        torch.nn.init.constant_(network.weight, step)
        average.follow(step)
        decay = min(0.9, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * step
    assert float(average.whole()["weight"]) == pytest.approx(expected)
    with average.applied():
        assert network.weight.item() == pytest.approx(expected)
    assert network.weight.item() == 29


@pytest.mark.parametrize("stage", ["writing", "between the renames", "before the clean-up"])
def test_that_a_folder_is_whole_whenever_the_process_dies(stage: str, tmp_path: Path) -> None:
    folder, previous = tmp_path / "last", tmp_path / "last.previous"
    for text in ("old", "new")[: 2 if stage == "before the clean-up" else 1]:
        with replaced(folder) as partial:
            partial.mkdir()
            (partial / "state").write_text(text)
    if stage == "writing":
        (tmp_path / "last.partial").mkdir()
    elif stage == "between the renames":
        folder.rename(previous)
        (tmp_path / "last.partial").mkdir()
    else:
        previous.mkdir()
    recover(folder)
    assert (folder / "state").read_text() == ("new" if stage == "before the clean-up" else "old")
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_that_an_error_while_writing_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "last"
    folder.mkdir()
    with pytest.raises(OSError), replaced(folder) as partial:
        partial.mkdir()
        raise OSError("disk full")
    recover(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_that_augmentation_follows_from_its_identity_and_stays_within_its_bounds() -> None:
    images = np.full((40, 8, 8, 3), 100, dtype=np.uint8)
    images[:, 4, 4] = 200
    config = AugmentationConfig(variants=2, brightness=0.2, contrast=0.0, shift_px=1)
    first = changed(images, config, 0, "episode", "third", 1)
    assert np.array_equal(first, changed(images, config, 0, "episode", "third", 1))
    assert not np.array_equal(first, changed(images, config, 0, "episode", "third", 2))
    light = first[:, 0, 0, 0].astype(int) - 100
    assert np.abs(light).max() <= 26
    assert np.ptp(light) > 20
    bright = [np.unravel_index(image[..., 0].argmax(), (8, 8)) for image in first]
    assert {abs(int(row) - 4) for row, _ in bright} == {0, 1}


def test_that_a_shift_repeats_the_edges() -> None:
    image = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((3, 2, 3), dtype=np.uint8)
    assert shifted(image, 1, 0)[:, 0, 0].tolist() == [0, 0, 1]
    assert shifted(image, -1, 0)[:, 0, 0].tolist() == [1, 2, 2]


def test_that_cached_versions_have_names_of_their_own() -> None:
    one, other = AugmentationConfig(variants=2), AugmentationConfig(variants=2, shift_px=9)
    more = AugmentationConfig(variants=5, code_dropout=0.5)
    names = {version_name(c, s, v) for c in (one, other) for s in (0, 1) for v in (1, 2)}
    assert len(names) == 8
    assert version_name(one, 0, 0) == version_name(other, 1, 0) == "clean"
    assert version_name(one, 0, 1) == version_name(more, 0, 1), "more versions keep the old ones"


def test_that_batches_are_made_while_the_network_works() -> None:
    def make(step: int) -> int:
        time.sleep(0.02)
        return step

    prefetch = Prefetch(make, 10)
    for step in range(1, 11):
        assert prefetch.take(step) == step
        time.sleep(0.04)
    prefetch.close()
    assert prefetch.waited_s < 0.1, "one wait, for the first"


def test_that_an_error_in_a_batch_reaches_the_loop() -> None:
    def make(step: int) -> int:
        raise ValueError(f"bad file at {step}")

    prefetch = Prefetch(make, 5)
    with pytest.raises(ValueError, match="bad file at 1"):
        prefetch.take(1)
    prefetch.close()
