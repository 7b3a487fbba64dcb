"""A writer adds whole episodes or nothing, wherever it is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_up import CAMERAS, POSES, assert_equal, key, make_episode, statistics, write_set

from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.data.format import DatasetError, DatasetSpec, Episode
from dfm_vla_ros.data.writer import DatasetWriter

LEROBOT = Path(__file__).parent / "lerobot"
SPEC = DatasetSpec(CAMERAS, 0.1, pose_names=POSES)

KILLED_AT_EACH_RENAME = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, "test")
from made_up import make_episode, write_set

left = 0

def hook(event, arguments):
    global left
    if event == "os.rename" and left:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
number, killed = 0, True
while killed:
    number += 1
    if not os.fork():
        left = number
        write_set(Path(sys.argv[1]) / str(number), [make_episode(1), make_episode(2)], sys.argv[2])
        os._exit(0)
    killed = os.WIFSIGNALED(os.wait()[1])
"""

WRITES_ON_AND_ON = """
import sys
from pathlib import Path
sys.path.insert(0, "test")
from made_up import key, make_episode
from dfm_vla_ros.data.format import DatasetSpec
from dfm_vla_ros.data.writer import DatasetWriter

with DatasetWriter(Path(sys.argv[1]), DatasetSpec.of(make_episode())) as writer:
    for seed in range(10_000):
        if key(make_episode(seed)) not in writer:
            writer.add(make_episode(seed), key(make_episode(seed)))
"""


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: waiting for a disk many times takes long."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.parametrize("storage", ["video", "image"])
def test_that_a_kill_before_any_rename_leaves_what_was_committed(
    quick_path: Path, storage: str
) -> None:
    command = [sys.executable, "-c", KILLED_AT_EACH_RENAME, str(quick_path), storage]
    subprocess.run(command, check=True)
    first, second = make_episode(1), make_episode(2)
    counts = []
    for folder in sorted(quick_path.iterdir(), key=lambda path: int(path.name)):
        began = (folder / "meta/info.json").exists()
        counts.append(len(Dataset.open(folder)) if began else 0)
        present = list(Dataset.open(folder).episodes()) if counts[-1] else []
        for written, read in zip((first, second), present, strict=False):
            assert_equal(written, read)
        with DatasetWriter(folder, SPEC, storage) as writer:
            assert len(writer) == counts[-1]
            for episode in (first, second):
                if key(episode) not in writer:
                    writer.add(episode, key(episode))
        assert_whole(folder, [first, second])
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2}
    assert len(counts) > 10


def assert_whole(folder: Path, episodes: list[Episode]) -> None:
    """Assert that the data set has these episodes and its files nothing else."""
    dataset = Dataset.open(folder)
    assert dataset.keys == tuple(key(episode) for episode in episodes)
    for written, read in zip(episodes, dataset.episodes(), strict=True):
        assert_equal(written, read)
    rows = sum(pq.read_metadata(path).num_rows for path in folder.glob("data/*/*.parquet"))
    assert rows == sum(map(len, episodes))
    rows = sum(pq.read_metadata(path).num_rows for path in folder.glob("meta/episodes/*/*"))
    assert rows == len(episodes)
    assert statistics(folder)["action"]["count"] == [sum(map(len, episodes))]
    assert not list(folder.rglob(".*.partial"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_that_twenty_kills_at_random_moments_lose_no_committed_episode(tmp_path: Path) -> None:
    rng, present = np.random.default_rng(0), 0
    for _ in range(20):
        writer = subprocess.Popen([sys.executable, "-c", WRITES_ON_AND_ON, str(tmp_path)])
        time.sleep(rng.uniform(0.7, 2.5))
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        if not (tmp_path / "meta/info.json").exists():
            continue
        dataset = Dataset.open(tmp_path)
        assert len(dataset) >= present
        present = len(dataset)
        assert [dataset.rows[i].seed for i in range(present)] == list(range(present))
    assert present > 20
    for seed, read in enumerate(Dataset.open(tmp_path).episodes()):
        assert_equal(make_episode(seed), read)


def test_that_a_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, SPEC):
        message = rf"{tmp_path} is being written by process {os.getpid()}; wait"
        with pytest.raises(DatasetError, match=message):
            DatasetWriter(tmp_path, SPEC)
    DatasetWriter(tmp_path, SPEC).close()


def test_that_a_reader_sees_each_episode_as_soon_as_it_is_added(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, SPEC) as writer:
        for seed in range(3):
            writer.add(make_episode(seed), key(make_episode(seed)))
            dataset = Dataset.open(tmp_path)
            assert len(dataset) == seed + 1
            assert_equal(make_episode(seed), dataset.episode(seed))
            assert statistics(tmp_path)["action"]["count"] == [5 * (seed + 1)]


def with_nan(name: str) -> Callable[[Episode], Episode]:
    """Return what puts a NaN into column 1 of frame 2 of an array."""

    def change(episode: Episode) -> Episode:
        values = getattr(episode, name).copy()
        values[2, 1] = np.nan
        return replace(episode, **{name: values})

    return change


BAD: dict[str, Callable[[Episode], Episode]] = {
    "positions of left_joint2 is nan at frame 2; give finite": with_nan("positions"),
    "targets of left_joint2 is nan at frame 2; give finite": with_nan("targets"),
    "poses of block.y is nan at frame 2; give finite": with_nan("poses"),
    "has a control period of 0.05 s, the data set 0.1 s (10 Hz); resample": lambda e: replace(
        e, period_s=0.05
    ),
    "has cameras ['third'], the data set ['left_wrist', 'third']; record": lambda e: replace(
        e, images={"third": e.images["third"]}
    ),
    "third has images (16, 12, 3) of uint8, the data set (16, 24, 3) of uint8": lambda e: replace(
        e, images={**e.images, "third": e.images["third"][:, :, ::2]}
    ),
    "third has images (16, 24, 3) of float32, the data set": lambda e: replace(
        e, images={**e.images, "third": e.images["third"].astype(np.float32)}
    ),
    "positions is (5, 6), expected (5, 14), the data set's joints": lambda e: replace(
        e, positions=e.positions[:, :6]
    ),
    "has poses (), the data set ('block.x', 'block.y'); record": lambda e: replace(
        e, poses=None, pose_names=()
    ),
    "has no instruction; give a sentence": lambda e: replace(e, instruction=""),
    "has no frame; give at least 1": lambda e: cut(e, 0),
}


def cut(episode: Episode, length: int) -> Episode:
    """Return the first frames."""
    parts = {n: getattr(episode, n)[:length] for n in ("positions", "commanded", "targets")}
    images = {camera: images[:length] for camera, images in episode.images.items()}
    return replace(episode, **parts, images=images, poses=episode.poses[:length])


def test_that_an_episode_that_does_not_fit_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, SPEC) as writer:
        writer.add(make_episode(1), "first")
        for message, change in BAD.items():
            with pytest.raises(DatasetError) as error:
                writer.add(change(make_episode(2)), "second")
            assert message in str(error.value)
        with pytest.raises(DatasetError, match="has an episode first already; choose another"):
            writer.add(make_episode(2), "first")
        writer.add(make_episode(2), "second")
    with pytest.raises(DatasetError, match="is closed; open another"):
        writer.add(make_episode(3), "third")
    assert Dataset.open(tmp_path).keys == ("first", "second")


def test_that_a_data_set_that_lost_its_record_is_left_alone(tmp_path: Path) -> None:
    write_set(tmp_path, [make_episode()])
    (tmp_path / "meta/info.json").unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match=r"but no meta/info\.json; restore that, or write"):
        DatasetWriter(tmp_path, SPEC)
    assert sorted(tmp_path.rglob("*")) == before


def test_that_a_data_set_of_another_kind_is_not_continued(tmp_path: Path) -> None:
    write_set(tmp_path, [make_episode()])
    others = {
        "has cameras": replace(SPEC, cameras={"third": (16, 24)}),
        "has frames per second 10, not 20": replace(SPEC, period_s=0.05),
        "has joints": replace(SPEC, joint_names=("a", "b")),
        "has poses": replace(SPEC, pose_names=()),
    }
    for message, spec in others.items():
        with pytest.raises(DatasetError, match=message):
            DatasetWriter(tmp_path, spec)
    with pytest.raises(DatasetError, match="has storage video, not image; write to another"):
        DatasetWriter(tmp_path, SPEC, "image")
    with pytest.raises(DatasetError, match="storage is 'zip', give one of video, image"):
        DatasetWriter(tmp_path, SPEC, "zip")
    with pytest.raises(DatasetError, match=r"period 0\.03 s is 33\.3333 Hz; .* resample"):
        replace(SPEC, period_s=0.03)
    with pytest.raises(DatasetError, match="was written by another program"):
        DatasetWriter(shutil.copytree(LEROBOT / "video", tmp_path / "theirs"), SPEC)
