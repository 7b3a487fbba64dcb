"""What is missing or damaged is named, with the file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up import make_episode, statistics, write_set

from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.data.format import DatasetError, DatasetSpec
from dfm_vla_ros.data.writer import DatasetWriter

DATA = "data/chunk-000/file-000.parquet"
ROWS = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.third/chunk-000/file-000.mp4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path, [make_episode(1, 30), make_episode(2, 30)])


def read(folder: Path) -> None:
    list(Dataset.open(folder).episodes())


def changed(**entries: Any) -> Callable[[Path], None]:
    """Return what changes entries of a JSON file."""

    def change(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | entries))

    return change


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("file", "fault", "message"),
    [
        ("meta/info.json", Path.unlink, "is no data set; make one with dfm-vla collect"),
        ("meta/info.json", half, "is no JSON"),
        ("meta/info.json", changed(codebase_version="v2.1"), "version v2.1, this reads v3.0"),
        ("meta/info.json", changed(fps=0), "fps is 0: give above 0"),
        ("meta/info.json", changed(total_episodes=3), "has 2 of the 3 episodes of"),
        ("meta/info.json", changed(total_frames=61), "has 60 frames, meta/info.json says 61"),
        (ROWS, Path.unlink, "has 0 of the 2 episodes"),
        (ROWS, half, "is no whole parquet file"),
        (DATA, Path.unlink, "is missing; restore it"),
        (DATA, half, "is no whole parquet file"),
        (DATA, empty, "is no whole parquet file"),
        (VIDEO, Path.unlink, "is missing; restore it"),
        (VIDEO, half, "is no whole video"),
        (VIDEO, empty, "is no whole video"),
    ],
)
def test_that_a_fault_names_its_file(
    folder: Path, file: str, fault: Callable[[Path], None], message: str
) -> None:
    fault(folder / file)
    named = str(folder / ("meta/episodes" if message.startswith("has ") else file))
    with pytest.raises(DatasetError, match=re.escape(message)) as error:
        read(folder)
    assert named in str(error.value)


def test_that_a_file_of_another_data_set_is_noticed(folder: Path, tmp_path: Path) -> None:
    short = write_set(tmp_path / "short", [make_episode(1, 30), make_episode(2, 10)])
    (folder / VIDEO).write_bytes((short / VIDEO).read_bytes())
    with pytest.raises(DatasetError, match=r"file-000\.mp4 has no frame at 4\.000 s, needs 30"):
        read(folder)
    (folder / DATA).write_bytes((short / DATA).read_bytes())
    with pytest.raises(DatasetError, match=r"has 10 frames of episode place_block_0002, .* 30"):
        read(folder)


def test_that_damaged_statistics_are_named_and_missing_ones_counted_anew(folder: Path) -> None:
    expected, spec = statistics(folder), DatasetSpec.of(make_episode())
    (folder / "meta/stats.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"stats\.json is damaged .* delete it"):
        DatasetWriter(folder, spec)
    (folder / "meta/stats.json").unlink()
    DatasetWriter(folder, spec).close()
    assert statistics(folder) == expected
