"""Episodes between recorder and writer: whole or not there, and nothing in them is run."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import assert_equal, make_episode

from dfm_vla_ros.data.format import EpisodeError, load_episode, save_episode

WRITER = """
import sys
from pathlib import Path
import numpy as np
from dfm_vla_ros.data.format import Episode, save_episode
noise = np.random.default_rng(0).integers(0, 255, (40, 96, 96, 3), dtype=np.uint8)
zeros = np.zeros((40, 14))
for seed in range(100_000):
    episode = Episode({"third": noise}, zeros, zeros, zeros, "t", seed, "do", True, 0.1)
    save_episode(episode, Path(sys.argv[1]) / f"t_{seed:06d}.npz")
"""


@pytest.mark.parametrize("poses", [True, False])
def test_that_an_episode_comes_back_as_it_was_saved(tmp_path: Path, poses: bool) -> None:
    episode = make_episode()
    if not poses:
        episode = replace(episode, poses=None, pose_names=())
    save_episode(episode, tmp_path / "one.npz")
    assert_equal(load_episode(tmp_path / "one.npz"), episode)
    assert list(tmp_path.iterdir()) == [tmp_path / "one.npz"]


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


def test_that_another_format_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "place_block_00000000.npz"
    np.savez(path, metadata=np.array('{"format": 99}'))
    with pytest.raises(EpisodeError, match="format 99, this version reads 1"):
        load_episode(path)
    with pytest.raises(EpisodeError, match=r"none\.npz is not a whole episode"):
        load_episode(tmp_path / "none.npz")


def test_that_a_killed_recorder_leaves_whole_episodes_only(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=Path.cwd())
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("t_*.npz"))) < 3 or not list(tmp_path.glob(".*.partial")):
        assert time.monotonic() < deadline
        assert writer.poll() is None
    writer.kill()
    writer.wait()
    seeds = [load_episode(path).seed for path in sorted(tmp_path.glob("t_*.npz"))]
    assert seeds == list(range(len(seeds)))
    assert len(seeds) >= 3
