import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfm_vla_ros.benchmarks.calvin.data import annotations, convert, read_episode, read_frames
from dfm_vla_ros.benchmarks.calvin.tasks import ROBOT
from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.errors import BenchmarkError

FIRST, COUNT = 553567, 8
CONTENT = {
    "language": {"ann": ["open the drawer", "turn on the led"], "task": ["open_drawer", "led"]},
    "info": {"episodes": [], "indx": [(FIRST, FIRST + 4), (FIRST + 3, FIRST + 7)]},
}


def _frame(number: int) -> dict[str, Any]:
    robot = ROBOT.copy()
    robot[0] += 0.01 * number
    robot[3] = np.pi - 0.02 + 0.01 * number
    robot[3] -= 2 * np.pi * (robot[3] > np.pi)
    action = np.append(robot[:6], 1.0 if number < 4 else -1.0)
    action[:3] += 0.01
    return {
        "actions": action,
        "robot_obs": robot,
        "scene_obs": np.full(24, float(number)),
        "rgb_static": np.full((16, 16, 3), number, np.uint8),
        "rgb_gripper": np.full((8, 8, 3), number, np.uint8),
        "depth_static": np.zeros((16, 16), np.float32),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recording as CALVIN stores it."""
    for number in range(COUNT):
        np.savez(tmp_path / f"episode_{FIRST + number:07d}.npz", **_frame(number))
    (tmp_path / "lang_annotations").mkdir()
    np.save(tmp_path / "lang_annotations/auto_lang_ann.npy", CONTENT, allow_pickle=True)
    return tmp_path


def test_that_frames_are_read_in_order(folder: Path) -> None:
    content = read_frames(folder, FIRST + 1, FIRST + 3)
    assert content["rgb_static"].shape == (3, 16, 16, 3)
    assert content["rgb_gripper"][:, 0, 0, 0].tolist() == [1, 2, 3]
    assert content["robot_obs"].shape == (3, 15)


def test_that_annotations_are_read_without_running_what_a_pickle_asks_for(folder: Path) -> None:
    first, second = annotations(folder)
    assert (first.first, first.last, first.task) == (FIRST, FIRST + 4, "open_drawer")
    assert second.sentence == "turn on the led"


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made_by_a_pickle",)


def test_that_a_pickle_that_wants_to_run_something_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    path = folder / "lang_annotations/auto_lang_ann.npy"
    np.save(path, {**CONTENT, "info": _Evil()}, allow_pickle=True)
    with pytest.raises(BenchmarkError, match=r"mkdir is no part of an array"):
        annotations(folder)
    assert not (folder / "made_by_a_pickle").exists()


@pytest.mark.parametrize("damage", ["missing", "cut", "shape", "pickled"])
def test_that_a_damaged_frame_is_named(folder: Path, damage: str) -> None:
    path = folder / f"episode_{FIRST + 2:07d}.npz"
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    else:
        odd = np.zeros(3) if damage == "shape" else np.array([{}], dtype=object)
        np.savez(path, **{**_frame(2), "actions": odd})
    with pytest.raises(BenchmarkError, match=f"episode_{FIRST + 2:07d}"):
        read_frames(folder, FIRST, FIRST + 4)


def test_that_a_file_that_is_no_annotation_is_refused(folder: Path) -> None:
    path = folder / "lang_annotations/auto_lang_ann.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(BenchmarkError, match="expected an object"):
        annotations(folder)
    path.write_bytes(pickle.dumps(CONTENT))
    with pytest.raises(BenchmarkError, match="auto_lang_ann"):
        annotations(folder)


def test_that_an_episode_has_what_was_commanded_due_at_the_next_frame(folder: Path) -> None:
    actions = read_frames(folder, FIRST, FIRST + 7)["actions"]
    whole = replace(annotations(folder)[0], last=FIRST + 7)
    episode = read_episode(folder, whole, 0)
    assert np.allclose(episode.commanded[0, :6], episode.positions[0, :6])
    assert np.allclose(episode.targets[1:, :3], actions[:-1, :3])
    assert episode.targets[:, 6].tolist() == [0.08] * 5 + [0.0] * 3
    assert np.ptp(episode.targets[:, 3]) < 0.1, "the roll crosses pi and does not jump"
    assert np.allclose(episode.positions[:, 6], ROBOT[6])


def test_that_recordings_become_a_data_set_that_is_continued(folder: Path) -> None:
    out, lines = folder / "out", list[str]()
    assert convert(folder, out, 1, "image", lines.append) == 1
    assert convert(folder, out, None, "image", lines.append) == 2
    assert len(lines) == 2
    dataset = Dataset.open(out)
    assert dataset.joint_names == ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    assert dataset.period_s == pytest.approx(1 / 30)
    assert len(dataset.episode(1)) == 5
