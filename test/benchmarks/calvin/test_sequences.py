import json
from itertools import islice
from pathlib import Path

import pytest

from dfm_vla_ros.benchmarks.calvin.sequences import (
    OFFICIAL,
    Chain,
    chains_from,
    checksum,
    differing_rows,
    initial_states,
    official_chains,
    possible,
    read_chains,
)
from dfm_vla_ros.benchmarks.calvin.tasks import TASKS, after
from dfm_vla_ros.errors import BenchmarkError


def _drawn(count: int) -> list[Chain]:
    states = initial_states()
    return [
        Chain(states[seed], tasks)
        for seed in range(count)
        for tasks in islice(chains_from(states[seed], seed), 6)
    ]


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


def test_that_a_drawn_chain_can_be_done_and_has_no_two_tasks_of_a_category() -> None:
    for chain in _drawn(1):
        state = chain.state
        for task in chain.tasks:
            state = after(state, TASKS[task])
            assert state is not None
        assert len({TASKS[task].category for task in chain.tasks}) == 5


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
