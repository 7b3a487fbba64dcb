"""A data set gives back what was added to it."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import assert_equal, key, make_episode, statistics, write_set

from dfm_vla_ros.data.dataset import Dataset, open_datasets
from dfm_vla_ros.data.format import DatasetError, DatasetSpec
from dfm_vla_ros.data.writer import DatasetWriter


@pytest.mark.parametrize("storage", ["video", "image"])
def test_that_every_bit_of_the_episodes_comes_back_by_key(tmp_path: Path, storage: str) -> None:
    episodes = [make_episode(9), make_episode(4, 1), make_episode(5, 8, "pot_lift")]
    dataset = Dataset.open(write_set(tmp_path, episodes, storage))
    assert dataset.keys == ("place_block_0004", "place_block_0009", "pot_lift_0005")
    assert dataset.tasks == ("place_block", "pot_lift")
    assert (dataset.cameras, dataset.period_s) == (("third", "left_wrist"), 0.1)
    for i, written in enumerate([episodes[1], episodes[0], episodes[2]]):
        assert_equal(written, dataset.episode(i))


def test_that_the_order_of_arrival_makes_no_difference_to_a_reader(tmp_path: Path) -> None:
    episodes = [make_episode(seed, 2 + seed) for seed in range(4)]
    one = Dataset.open(write_set(tmp_path / "one", episodes))
    other = Dataset.open(write_set(tmp_path / "other", episodes[::-1]))
    assert one.keys == other.keys
    for a, b in zip(one.episodes(), other.episodes(), strict=True):
        assert_equal(a, b)
    for name in ("action", "observation.state"):
        for statistic, values in statistics(one.folder)[name].items():
            others = statistics(other.folder)[name][statistic]
            np.testing.assert_allclose(values, others, rtol=1e-12)


def test_that_episodes_are_chosen_by_task_number_and_camera(tmp_path: Path) -> None:
    episodes = [make_episode(s, 3, t) for t in ("pot_lift", "place_veg") for s in range(3)]
    dataset = Dataset.open(write_set(tmp_path, episodes))
    chosen = list(dataset.episodes("pot_lift", limit=2, images=("left_wrist",)))
    assert [(e.task, e.seed) for e in chosen] == [("pot_lift", 0), ("pot_lift", 1)]
    assert list(chosen[0].images) == ["left_wrist"]
    assert dataset.episode(0, images=False).images == {}
    with pytest.raises(DatasetError, match="no episode of juggle in"):
        next(dataset.episodes("juggle"))
    with pytest.raises(DatasetError, match="has no camera right_wrist, only third, left_wrist"):
        dataset.episode(0, images=("right_wrist",))
    with pytest.raises(DatasetError, match=r"episode 6 of .*: give 0\.\.5"):
        dataset.episode(6)


def test_that_what_is_due_next_is_the_action_and_the_last_one_stays(tmp_path: Path) -> None:
    episode = replace(make_episode(1, 3), poses=None, pose_names=())
    dataset = Dataset.open(write_set(tmp_path, [episode]))
    assert dataset.pose_names == ()
    mean = statistics(tmp_path)["action"]["mean"]
    np.testing.assert_allclose(mean, episode.targets[[1, 2, 2]].mean(0), rtol=1e-12)
    assert dataset.episode(0).poses is None


def test_that_no_more_than_one_episode_is_in_memory(tmp_path: Path) -> None:
    images = {"third": np.full((60, 64, 64, 3), 7, np.uint8)}
    episodes = [replace(make_episode(seed, 60), images=images) for seed in range(8)]
    dataset = Dataset.open(write_set(tmp_path, episodes))
    assert len(list(tmp_path.rglob("*.mp4"))) == 1
    tracemalloc.start()
    last = dataset.episode(7)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(last.images["third"], images["third"])
    assert peak < 1.5 * images["third"].nbytes


def test_that_files_are_begun_anew_before_they_get_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfm_vla_ros.data.writer.FILE_MB", 1)
    rng = np.random.default_rng(0)
    cameras = {"third": (64, 64)}
    written = []
    for storage in ("video", "image"):
        folder = tmp_path / storage
        spec = DatasetSpec(cameras, 0.1, pose_names=make_episode().pose_names)
        with DatasetWriter(folder, spec, storage) as writer:
            for seed in range(5):
                images = {"third": rng.integers(0, 256, (40, 64, 64, 3), np.uint8)}
                written.append(replace(make_episode(seed, 40), images=images))
                writer.add(written[-1], key(written[-1]))
        files = [*folder.rglob("*.mp4"), *folder.glob("data/*/*.parquet")]
        assert len(files) >= 3
        assert max(path.stat().st_size for path in files) <= 2**20
    for i, episode in enumerate(written):
        assert_equal(episode, Dataset.open(tmp_path / ("video", "image")[i // 5]).episode(i % 5))


def test_that_folders_of_data_sets_are_opened_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_set(tmp_path / "all" / name, [make_episode()])
    write_set(tmp_path / "one", [make_episode()])
    found = open_datasets([tmp_path / "one", tmp_path / "all"])
    assert [dataset.folder.name for dataset in found] == ["one", "a", "b"]
    assert len({dataset.identity for dataset in found}) == 3
    with pytest.raises(DatasetError, match=r"no data set in .*; make one with dfm-vla collect"):
        open_datasets([tmp_path / "none"])
