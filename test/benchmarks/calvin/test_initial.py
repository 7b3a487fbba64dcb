import math
from itertools import combinations

import numpy as np
import pytest

from dfm_vla_ros.benchmarks.calvin.sequences import initial_states
from dfm_vla_ros.benchmarks.calvin.tasks import ROBOT, State, pyhash_fnv1_32, scene_of, scene_seed


def test_that_the_hash_is_that_of_the_library_in_its_own_tests() -> None:
    # pyhash's tests/test_fnv1.py, the value for the str "test"
    assert pyhash_fnv1_32("test") == 3910690890


def test_that_the_seed_hashes_the_words_that_python_prints_of_the_values() -> None:
    state = initial_states()[5]
    assert scene_seed(state) == pyhash_fnv1_32(str(state.values()))
    assert len({scene_seed(state) for state in initial_states()}) == 192


@pytest.mark.parametrize("state", initial_states()[::7])
def test_that_furniture_and_lights_are_as_the_state_says(state: State) -> None:
    scene = scene_of(state)
    assert scene.shape == (24,)
    assert scene[0] == (0.28 if state["slider"] == "left" else 0)
    assert scene[1] == (0.22 if state["drawer"] == "open" else 0)
    assert (scene[4], scene[5]) == (state["lightbulb"], state["led"])
    assert (scene[3] > 0) == bool(state["lightbulb"])


@pytest.mark.parametrize("state", initial_states()[::5])
def test_that_blocks_are_where_the_state_says_and_never_in_the_same_place(state: State) -> None:
    blocks = scene_of(state)[6:].reshape(3, 6)
    for colour, block in zip(("red", "blue", "pink"), blocks, strict=True):
        on_table = block[1] < 0
        assert on_table == (state[f"{colour}_block"] == "table")
        assert abs(block[5] - math.pi / 2) < math.pi / 8
        assert block[3] == block[4] == 0
    for one, other in combinations(blocks[:, :3], 2):
        assert np.linalg.norm(one - other) > 0.1


def test_that_a_state_has_one_scene_and_the_draws_of_others_stay_their_own() -> None:
    state = initial_states()[3]
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    assert np.array_equal(scene_of(state), scene_of(dict(state)))
    assert np.array_equal(np.random.get_state()[1], before)


def test_that_the_robot_begins_with_an_open_gripper() -> None:
    assert ROBOT.shape == (15,)
    assert ROBOT[6] == pytest.approx(0.08, abs=1e-6) and ROBOT[14] == 1
