"""``dfm-vla collect``: demonstrations of the twin in a data set, however often it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from made_up import statistics

from dfm_vla_ros.cli import main
from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.data.format import DatasetError, Episode, save_episode
from dfm_vla_ros.data.writer import DatasetWriter
from dfm_vla_ros.sim.collecting import SPOOL, collect
from dfm_vla_ros.sim.demonstrate import demonstrate, demonstration_spec
from dfm_vla_ros.sim.perturbations import Setting
from dfm_vla_ros.sim.twin import Twin
from dfm_vla_ros.sim.variation import demonstrator

NOISE_RAD = 0.012


def run(out: Path, episodes: int, *options: str, task: str = "pot_lift") -> int:
    counts = ("--episodes", str(episodes), "--seed", "20", "--workers", "1")
    return main(["collect", "--task", task, *counts, "--out", str(out), *options])


def assert_same_content(one: Path, other: Path) -> None:
    left, right = Dataset.open(one), Dataset.open(other)
    assert left.keys == right.keys
    assert [row.number for row in left.rows] == [row.number for row in right.rows]
    for a, b in zip(left.episodes(), right.episodes(), strict=True):
        assert_same_episode(a, b)
    assert statistics(one) == statistics(other)


def assert_same_episode(a: Episode, b: Episode) -> None:
    assert (a.task, a.seed, a.instruction, a.success) == (b.task, b.seed, b.instruction, b.success)
    for part in ("positions", "commanded", "targets", "poses"):
        np.testing.assert_array_equal(getattr(a, part), getattr(b, part))
    for camera, images in a.images.items():
        np.testing.assert_array_equal(images, b.images[camera])


def test_that_the_data_set_holds_what_the_expert_did_and_the_cameras_saw(tmp_path: Path) -> None:
    assert run(tmp_path, 1) == 0
    (episode,) = Dataset.open(tmp_path).episodes()
    assert_same_episode(episode, demonstrate(Twin(), "pot_lift", 20, NOISE_RAD))
    assert episode.success
    assert tuple(episode.images) == ("third", "left_wrist", "right_wrist")


def test_that_what_varies_is_recorded_and_does_not_stand_for_the_plain_episode(
    tmp_path: Path,
) -> None:
    several = ("--modes", "several", "--variation", "wide", "--phrasing", "train")
    assert run(tmp_path, 2, "--no-images") == 0
    assert run(tmp_path, 2, "--no-images", *several) == 0
    found = Dataset.open(tmp_path)
    assert found.keys[:2] == ("pot_lift_00000020", "pot_lift_00000020_wide_train_several")
    twin = Twin(setting=Setting(variation="wide", phrasing="train"))
    again = demonstrate(twin, "pot_lift", 20, NOISE_RAD, False, demonstrator("several"))
    assert_same_episode(found.episode(1), again)
    assert found.episode(1).style == again.style
    assert found.episode(0).style == ""


def test_that_the_poses_are_where_the_objects_were(tmp_path: Path) -> None:
    assert run(tmp_path, 1, "--no-images") == 0
    (episode,) = Dataset.open(tmp_path).episodes()
    assert episode.images == {}
    twin = Twin()
    twin.reset("pot_lift", 20)
    place = [episode.pose_names.index(f"pot.{axis}") for axis in "xyz"]
    np.testing.assert_array_equal(episode.poses[0, place], twin.scene.object_position("pot"))
    lifted = episode.poses[-1, place[2]] - episode.poses[0, place[2]]
    assert lifted > 0.05


def test_that_collecting_again_adds_what_is_missing_and_touches_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, 1, "--no-images") == 0
    (first,) = Dataset.open(tmp_path).episodes()
    capsys.readouterr()
    assert run(tmp_path, 2, "--no-images") == 0
    assert "1 present, 1 to collect" in capsys.readouterr().out
    again, second = Dataset.open(tmp_path).episodes()
    assert_same_episode(first, again)
    assert second.seed == 21
    assert not (tmp_path / SPOOL).exists()


def test_that_a_finished_episode_in_the_spool_is_used_and_a_damaged_one_recorded_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = tmp_path / "out" / SPOOL
    spool.mkdir(parents=True)
    (spool / ".pot_lift_00000021.npz.7.partial").write_bytes(b"half")
    (spool / "pot_lift_00000021.npz").write_bytes(b"cut by a power failure")
    kept = demonstrate(Twin(), "pot_lift", 20, 0.001, images=False)
    save_episode(kept, spool / "pot_lift_00000020.npz")
    assert run(tmp_path / "out", 2, "--no-images") == 1
    assert "pot_lift_00000021.npz is not a whole episode" in capsys.readouterr().out
    assert not spool.exists()  # nothing that waited was recorded again
    assert run(tmp_path / "out", 2, "--no-images") == 0
    episodes = list(Dataset.open(tmp_path / "out").episodes())
    assert [episode.seed for episode in episodes] == [20, 21]
    assert_same_episode(episodes[0], kept)  # not recorded again: that would have more noise
    assert not spool.exists()


def test_that_two_runs_into_one_data_set_are_refused(tmp_path: Path) -> None:
    with (
        DatasetWriter(tmp_path, demonstration_spec(images=False)),
        pytest.raises(DatasetError, match=f"is being written by process {os.getpid()}"),
    ):
        collect(tmp_path, [("pot_lift", 0)], 1, NOISE_RAD, images=False)


def test_that_collecting_an_unknown_task_makes_no_folder(tmp_path: Path) -> None:
    assert run(tmp_path / "out", 1, task="juggle") == 1
    assert not (tmp_path / "out").exists()


def finished(folder: Path) -> int:
    """Return how many episodes are in the data set or wait in its spool."""
    waiting = len(list((folder / SPOOL).glob("*.npz")))
    return waiting + (len(Dataset.open(folder)) if (folder / "meta/info.json").exists() else 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_that_twenty_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    count = 40
    wanted = [("pot_lift", 20 + i) for i in range(count)]
    assert collect(tmp_path / "whole", wanted, 2, NOISE_RAD) == []
    command = [sys.executable, "-m", "dfm_vla_ros.cli", "collect", "--task", "pot_lift"]
    command += ["--episodes", str(count), "--seed", "20", "--out", str(tmp_path / "killed")]
    rng = np.random.default_rng(0)
    progress = []
    for number in range(20):
        before = finished(tmp_path / "killed")
        run = subprocess.Popen(command, start_new_session=True)
        while number % 2 and run.poll() is None and finished(tmp_path / "killed") == before:
            time.sleep(0.01)  # every other run gets something done
        time.sleep(rng.uniform(0.0, 1.5))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        if (tmp_path / "killed/meta/info.json").exists():
            progress.append(len(Dataset.open(tmp_path / "killed")))
    assert progress == sorted(progress), "an episode that was there is gone"
    assert progress[-1] > 5
    assert subprocess.run(command, check=False).returncode == 0
    assert_same_content(tmp_path / "whole", tmp_path / "killed")
    assert not (tmp_path / "killed" / SPOOL).exists()
