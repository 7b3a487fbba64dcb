from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.data.episodes import (
    Episode,
    EpisodeError,
    episode_path,
    load_episode,
    load_folder,
    save_episode,
)

WRITER = """
import sys
from pathlib import Path
import numpy as np
from dfm_vla_ros.data.episodes import Episode, episode_path, save_episode
noise = np.random.default_rng(0).integers(0, 255, (40, 96, 96, 3), dtype=np.uint8)
zeros = np.zeros((40, 14))
for seed in range(100_000):
    episode = Episode({"third": noise}, zeros, zeros, zeros, "t", seed, "do", True, 0.1)
    save_episode(episode, episode_path(Path(sys.argv[1]), "t", seed))
"""


def make_episode(seed: int = 3, length: int = 5) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        images={"third": rng.integers(0, 255, (length, 8, 8, 3), dtype=np.uint8)},
        positions=rng.normal(size=(length, 14)),
        commanded=rng.normal(size=(length, 14)),
        targets=rng.normal(size=(length, 14)),
        task="place_block",
        seed=seed,
        instruction="place the block on the plate",
        success=True,
        period_s=0.1,
    )


def test_that_an_episode_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    episode = make_episode()
    path = episode_path(tmp_path, episode.task, episode.seed)
    save_episode(episode, path)
    again = load_episode(path)
    np.testing.assert_array_equal(again.images["third"], episode.images["third"])
    for name in ("positions", "commanded", "targets"):
        np.testing.assert_array_equal(getattr(again, name), getattr(episode, name))
    for name in ("task", "seed", "instruction", "success", "period_s"):
        assert getattr(again, name) == getattr(episode, name)
    assert len(again) == 5
    assert list(tmp_path.iterdir()) == [path]


def test_that_parts_of_different_length_are_refused() -> None:
    with pytest.raises(EpisodeError, match="targets has 4 frames, positions 5"):
        replace(make_episode(), targets=np.zeros((4, 14)))


@pytest.mark.parametrize("kept", [0, 10, 400, -1])
def test_that_a_file_cut_short_is_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "place_block_00000003.npz"
    save_episode(make_episode(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(EpisodeError, match=r"place_block_00000003\.npz is not a whole episode"):
        load_episode(path)


def test_that_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "place_block_00000003.npz"
    save_episode(make_episode(length=50), path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(EpisodeError, match="is not a whole episode"):
        load_episode(path)


def test_that_a_pickle_in_a_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "place_block_00000000.npz"
    np.savez(path, metadata=np.array({"a": 1}, dtype=object))
    with pytest.raises(EpisodeError, match="pickle"):
        load_episode(path)


def test_that_another_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "place_block_00000000.npz"
    np.savez(path, metadata=np.array('{"format": 99}'))
    with pytest.raises(EpisodeError, match="format 99, this version reads 1"):
        load_episode(path)


def test_that_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match=r"none\.npz is not a whole episode"):
        load_episode(tmp_path / "none.npz")
    with pytest.raises(EpisodeError, match="no episode of pot_lift in"):
        list(load_folder(tmp_path, "pot_lift"))


def test_that_a_folder_is_read_by_task_in_order(tmp_path: Path) -> None:
    for seed in (12, 2, 7):
        save_episode(make_episode(seed), episode_path(tmp_path, "place_block", seed))
    save_episode(replace(make_episode(1), task="pot_lift"), episode_path(tmp_path, "pot_lift", 1))
    assert [episode.seed for episode in load_folder(tmp_path, "place_block")] == [2, 7, 12]
    assert len(list(load_folder(tmp_path))) == 4


def test_that_a_killed_writer_leaves_whole_episodes_only(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=Path.cwd())
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("t_*.npz"))) < 3 or not list(tmp_path.glob(".*.partial")):
        assert time.monotonic() < deadline
        assert writer.poll() is None
    writer.kill()
    writer.wait()
    seeds = [episode.seed for episode in load_folder(tmp_path)]
    assert seeds == list(range(len(seeds)))
    assert len(seeds) >= 3
