"""Data sets are LeRobotDataset v3.0, by a reader made from its description alone.

It uses pyarrow and av, and nothing of the package under test.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from made_up import POSES, make_episode, write_set

from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.robot.joints import JOINT_NAMES

EPISODES = [make_episode(8, 7), make_episode(3, 4, "pot_lift"), make_episode(5, 6)]
STATISTICS = {"min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"}
VECTORS = {"observation.state": 14, "observation.commanded": 14, "action": 14}
FIXTURES = Path(__file__).parent / "lerobot"


class Reader:
    """What the description of the format says, taken literally."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = json.loads((root / "meta/info.json").read_text())
        self.stats = json.loads((root / "meta/stats.json").read_text())
        paths = sorted(root.glob("meta/episodes/*/*.parquet"))
        self.episodes = [row for path in paths for row in pq.read_table(path).to_pylist()]
        table = pq.read_table(root / "meta/tasks.parquet")
        index = json.loads(table.schema.metadata[b"pandas"])["index_columns"]
        assert index == ["task"], "pandas must find the sentences as the index"
        self.tasks = {row["task_index"]: row["task"] for row in table.to_pylist()}

    def rows(self, episode: int) -> list[dict[str, Any]]:
        meta = self.episodes[episode]
        path = self.info["data_path"].format(
            chunk_index=meta["data/chunk_index"], file_index=meta["data/file_index"]
        )
        rows = pq.read_table(self.root / path).to_pylist()
        start, end = meta["dataset_from_index"], meta["dataset_to_index"]
        return [row for row in rows if start <= row["index"] < end]

    def image(self, episode: int, camera: str, timestamp: float) -> np.ndarray:
        """Return the frame of the video that is nearest to a time of the episode."""
        meta, name = self.episodes[episode], f"observation.images.{camera}"
        path = self.info["video_path"].format(
            video_key=name,
            chunk_index=meta[f"videos/{name}/chunk_index"],
            file_index=meta[f"videos/{name}/file_index"],
        )
        wanted = meta[f"videos/{name}/from_timestamp"] + timestamp
        with av.open(str(self.root / path)) as container:
            stream = container.streams.video[0]
            assert stream.average_rate == self.info["fps"]
            container.seek(round(wanted / stream.time_base) - 1, stream=stream, backward=True)
            frames = list(container.decode(stream))
        times = np.array([float(frame.pts * frame.time_base) for frame in frames])
        nearest = int(np.abs(times - wanted).argmin())
        assert abs(times[nearest] - wanted) < 1e-4  # LeRobot's tolerance
        return frames[nearest].to_ndarray(format="rgb24")


@pytest.fixture(scope="module", params=["video", "image"])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    return Reader(write_set(tmp_path_factory.mktemp("set"), EPISODES, request.param))


def test_that_info_counts_and_describes_what_is_there(reader: Reader) -> None:
    info = reader.info
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 17, 2)
    assert (info["fps"], info["splits"]) == (10, {"train": "0:3"})
    features = info["features"]
    for name, size in (VECTORS | {"observation.environment_state": 2}).items():
        assert features[name]["shape"] == [size]
    assert features["action"]["names"] == list(JOINT_NAMES)
    assert features["observation.environment_state"]["names"] == list(POSES)
    third = features["observation.images.third"]
    assert (third["shape"], third["names"]) == ([16, 24, 3], ["height", "width", "channels"])
    for name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        assert features[name]["shape"] == [1]


def test_that_every_frame_is_where_the_episodes_table_says(reader: Reader) -> None:
    index = 0
    for number, written in enumerate(EPISODES):
        meta = reader.episodes[number]
        assert (meta["episode_index"], meta["length"]) == (number, len(written))
        assert meta["tasks"] == [written.instruction]
        assert (meta["task_name"], meta["seed"]) == (written.task, written.seed)
        rows = reader.rows(number)
        assert len(rows) == len(written)
        for t, row in enumerate(rows):
            assert (row["frame_index"], row["episode_index"], row["index"]) == (t, number, index)
            assert row["timestamp"] == np.float32(t / 10)
            assert reader.tasks[row["task_index"]] == written.instruction
            assert row["observation.state"] == written.positions[t].tolist()
            assert row["observation.commanded"] == written.commanded[t].tolist()
            assert row["action"] == written.targets[min(t + 1, len(written) - 1)].tolist()
            assert row["observation.environment_state"] == written.poses[t].tolist()
            for camera, images in written.images.items():
                np.testing.assert_array_equal(picture(reader, number, camera, row), images[t])
            index += 1


def picture(reader: Reader, episode: int, camera: str, row: dict[str, Any]) -> np.ndarray:
    name = f"observation.images.{camera}"
    if reader.info["features"][name]["dtype"] == "video":
        assert name not in row
        return reader.image(episode, camera, row["timestamp"])
    with av.open(io.BytesIO(row[name]["bytes"])) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_that_every_feature_has_every_statistic_whole_and_by_episode(reader: Reader) -> None:
    for name, feature in reader.info["features"].items():
        assert set(reader.stats[name]) == STATISTICS
        camera = "images" in name
        shape = (3, 1, 1) if camera else tuple(feature["shape"])
        for statistic, values in reader.stats[name].items():
            expected = (1,) if statistic == "count" else shape
            assert np.shape(values) == expected, (name, statistic)
            for meta in reader.episodes:
                assert np.shape(meta[f"stats/{name}/{statistic}"]) == expected
        assert reader.stats[name]["count"] == [17]


def test_that_quantiles_are_those_of_all_frames(reader: Reader) -> None:
    actions = np.concatenate([e.targets[[*range(1, len(e)), -1]] for e in EPISODES])
    for name, share in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
        expected = np.quantile(actions, share, axis=0)
        np.testing.assert_allclose(reader.stats["action"][name], expected, rtol=1e-12)
    np.testing.assert_allclose(reader.stats["action"]["std"], actions.std(0), rtol=1e-12)


@pytest.mark.parametrize("storage", ["video", "image"])
def test_that_a_data_set_that_lerobot_wrote_is_read(storage: str) -> None:
    """Written by lerobot 0.4.4: 6 joints, float32, no commanded positions, AV1 or PNG."""
    dataset = Dataset.open(FIXTURES / storage)
    assert dataset.keys == ("episode_000000", "episode_000001", "episode_000002")
    assert (dataset.cameras, dataset.joint_names[-1]) == (("top",), "j5")
    for number, episode in enumerate(dataset.episodes()):
        assert episode.instruction == f"do {number % 2}"
        frame = 100.0 * number + np.arange(20 + number)
        np.testing.assert_array_equal(episode.positions[:, 3], frame)
        np.testing.assert_array_equal(episode.targets[1:, 3], frame[:-1] + 0.5)
        np.testing.assert_array_equal(episode.commanded, episode.targets)
        assert episode.targets[0, 3] == frame[0]
        grey = episode.images["top"][:, 40:, 40:].astype(float)
        assert np.abs(grey - (10 * number + np.arange(20 + number))[:, None, None, None]).max() < 4
