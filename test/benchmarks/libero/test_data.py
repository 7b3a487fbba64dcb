"""Demonstrations as episodes, and what is learnt from them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from dfm_vla_ros.benchmarks.libero import JOINT_NAMES
from dfm_vla_ros.benchmarks.libero.data import as_episode, convert, task_of
from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.errors import BenchmarkError
from dfm_vla_ros.tokens.specification import next_targets

TASK = "KITCHEN_SCENE3_turn_on_the_stove"


def demonstration(count: int = 6) -> dict[str, np.ndarray]:
    """Return a demonstration whose frame t has the value t."""
    rng = np.random.default_rng(count)
    frames = np.arange(count, dtype=np.uint8)
    images = np.broadcast_to(frames[:, None, None, None], (count, 8, 8, 3)).copy()
    images[:, 0, 0] = 200
    actions = rng.uniform(-1, 1, (count, 7))
    actions[:, 6] = np.where(np.arange(count) < count // 2, -1.0, 1.0)
    return {
        "actions": actions,
        "ee_pos": rng.normal(size=(count, 3)),
        "ee_ori": rng.normal(size=(count, 3)),
        "gripper_states": np.column_stack([np.full(count, 0.03), np.full(count, -0.02)]),
        "agentview_rgb": images,
        "eye_in_hand_rgb": images,
    }


def test_that_the_action_after_a_frame_is_its_label() -> None:
    arrays = demonstration()
    episode = as_episode(arrays, TASK, 3)
    labels = next_targets(episode.targets, 4)
    # Frame t shows the world after action t.
    assert np.array_equal(labels[1], arrays["actions"][2:6])
    assert np.array_equal(labels[4, 1:], np.tile([0, 0, 0, 0, 0, 0, 1], (3, 1)))
    assert not episode.commanded.any()


def test_that_files_that_look_first_have_other_labels() -> None:
    arrays = demonstration()
    labels = next_targets(as_episode(arrays, TASK, 3, seen="before").targets, 4)
    assert np.array_equal(labels[0], arrays["actions"][:4])
    assert np.array_equal(labels[5, 0], arrays["actions"][5])


def test_that_an_episode_has_the_sentence_the_opening_and_turned_images() -> None:
    episode = as_episode(demonstration(), TASK, 3)
    assert episode.instruction == "turn on the stove" and episode.seed == 3
    assert np.allclose(episode.positions[:, 6], 0.05) and episode.period_s == 0.05
    assert (episode.images["agentview"][2, -1, -1] == 200).all()
    assert (episode.images["agentview"][2, 0, 0] == 2).all()
    stored = as_episode(demonstration(), TASK, 3, turn=False)
    assert (stored.images["eye_in_hand"][2, 0, 0] == 200).all()


@pytest.mark.parametrize("name", ["actions", "ee_ori", "agentview_rgb"])
def test_that_a_damaged_demonstration_is_named(name: str) -> None:
    with pytest.raises(BenchmarkError, match=name):
        as_episode(demonstration() | {name: np.zeros((5, 2))}, TASK, 0)
    arrays = demonstration()
    del arrays[name]
    with pytest.raises(BenchmarkError, match=f"no {name}"):
        as_episode(arrays, TASK, 0)


def test_that_a_file_of_another_name_is_refused() -> None:
    assert task_of(Path(f"{TASK}_demo.hdf5")) == TASK
    with pytest.raises(BenchmarkError, match="is not named TASK_demo"):
        task_of(Path("demo.hdf5"))


def write_hdf5(path: Path, demonstrations: dict[str, dict[str, np.ndarray]]) -> Path:
    """Write a file as LIBERO has them."""
    with h5py.File(path, "w") as file:
        for name, arrays in demonstrations.items():
            group = file.create_group(f"data/{name}")
            for key, values in arrays.items():
                group[key if key == "actions" else f"obs/{key}"] = values
    return path


def test_that_files_become_a_data_set_that_is_continued(tmp_path: Path) -> None:
    demonstrations = {f"demo_{n}": demonstration(4 + n) for n in (0, 2, 10)}
    path = write_hdf5(tmp_path / f"{TASK}_demo.hdf5", demonstrations)
    assert convert([path], tmp_path / "set", storage="image") == (3, 0)
    assert convert([path], tmp_path / "set", storage="image") == (0, 3)
    dataset = Dataset.open(tmp_path / "set")
    assert dataset.keys == tuple(f"{TASK}_demo/{n}" for n in (0, 10, 2))
    episode = dataset.episode(2)
    expected = as_episode(demonstrations["demo_2"], TASK, 2)
    assert dataset.info.spec.joint_names == JOINT_NAMES
    assert np.array_equal(episode.targets[1:], expected.targets[1:])
    assert np.array_equal(episode.images["agentview"], expected.images["agentview"])


def test_that_a_file_without_demonstrations_is_refused(tmp_path: Path) -> None:
    path = tmp_path / f"{TASK}_demo.hdf5"
    path.write_bytes(b"nothing")
    with pytest.raises(BenchmarkError, match=r"is no file of LIBERO's demonstrations"):
        convert([path], tmp_path / "set")
