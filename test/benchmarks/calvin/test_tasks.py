import json
import math
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.benchmarks.calvin.tasks import (
    OFFICIAL,
    TASKS,
    Chain,
    State,
    after,
    chains_from,
    checksum,
    differing_rows,
    fnv1_32,
    initial_states,
    official_chains,
    possible,
    read_chains,
    scene_of,
    scene_seed,
)
from dfm_vla_ros.errors import BenchmarkError


def _drawn(count: int) -> list[Chain]:
    states = initial_states()
    return [chain for seed in range(count) for chain in islice(chains_from(states[seed], seed), 6)]


@pytest.mark.slow
def test_that_the_thousand_chains_have_the_official_checksum() -> None:
    chains = official_chains()
    assert len(chains) == 1000
    assert checksum(chains) == OFFICIAL


def test_that_the_first_two_states_give_their_official_chains() -> None:
    assert checksum(_drawn(2)) == "b4442445e67c6f56"


def test_that_there_are_192_states_with_one_or_two_blocks_on_the_table() -> None:
    states = initial_states()
    assert len({json.dumps(state) for state in states}) == 192
    for state in states:
        places = [state[f"{colour}_block"] for colour in ("red", "blue", "pink")]
        behind = [place for place in places if place != "table"]
        assert len(behind) in (1, 2) and len(set(behind)) == len(behind)


def test_that_a_task_changes_the_state_as_it_says() -> None:
    state = initial_states()[0]
    assert (state["slider"], state["drawer"], state["led"]) == ("right", "closed", 0)
    lit = after(state, TASKS["turn_on_led"])
    assert lit == state | {"led": 1} and state["led"] == 0
    assert after(lit, TASKS["turn_on_led"]) is None
    held = after(state, TASKS["lift_red_block_table"])
    assert held == state | {"red_block": "grasped", "grasped": 1}
    assert after(held, TASKS["open_drawer"]) is None, "the gripper is not free"
    put = after(held, TASKS["place_in_slider"])
    assert put == state | {"red_block": "slider_right"}
    assert after(held, TASKS["stack_block"])["blue_block"] == "stacked_bottom"


def test_that_a_block_behind_the_closed_side_of_the_slider_cannot_be_lifted() -> None:
    state = initial_states()[0] | {"red_block": "slider_right", "slider": "right"}
    assert after(state, TASKS["lift_red_block_slider"]) is None
    assert after(state | {"slider": "left"}, TASKS["lift_red_block_slider"]) is not None


def test_that_a_block_is_pushed_into_the_drawer_only_if_it_is_alone_on_the_table() -> None:
    state = initial_states()[0] | {
        "drawer": "open",
        "red_block": "slider_left",
        "blue_block": "table",
        "pink_block": "slider_right",
    }
    assert after(state, TASKS["push_into_drawer"])["blue_block"] == "drawer"
    assert after(state | {"red_block": "table"}, TASKS["push_into_drawer"]) is None


def test_that_what_fits_two_blocks_is_impossible_because_nobody_could_say_which() -> None:
    state = initial_states()[0] | {"red_block": "grasped", "blue_block": "grasped", "grasped": 1}
    assert after(state, TASKS["place_in_slider"]) is None
    assert not possible(state, ("place_in_slider",))


def test_that_a_published_list_is_read_and_its_differing_rows_are_named(tmp_path: Path) -> None:
    chains = _drawn(1)
    rows = [[chain.state, list(chain.tasks)] for chain in chains]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(rows, indent=4))
    assert checksum(read_chains(path)) == checksum(chains)
    rows[2][1] = rows[2][1][::-1]
    path.write_text(json.dumps(rows[:-1]))
    assert differing_rows(chains, read_chains(path)) == [2, 5]


@pytest.mark.parametrize("text", ["{", "[1]", '[[{"led": 0}, ["open_drawer"]]]'])
def test_that_a_damaged_list_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=r"list\.json"):
        read_chains(path)


def test_that_a_scene_has_the_seed_of_the_librarys_hash() -> None:
    # pyhash's tests/test_fnv1.py, the value for the str "test"
    assert fnv1_32("test") == 3910690890
    state = initial_states()[5]
    assert scene_seed(state) == fnv1_32(str(state.values()))
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
