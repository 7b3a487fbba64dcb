import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dfm_vla_ros.benchmarks.calvin.oracle import World
from dfm_vla_ros.benchmarks.calvin.protocol import Protocol
from dfm_vla_ros.benchmarks.calvin.sequences import initial_states
from dfm_vla_ros.benchmarks.calvin.simulator import View
from dfm_vla_ros.benchmarks.calvin.tasks import ROBOT, scene_of
from dfm_vla_ros.benchmarks.calvin.worker import run_chain
from dfm_vla_ros.errors import CalvinError

STATE = initial_states()[0]
TASKS = ["open_drawer", "turn_on_led", "close_drawer"]


class Table:
    """A drawer that opens by x and a led that y turns on; nothing else moves."""

    def __init__(self) -> None:
        self.resets: list[tuple[np.ndarray, np.ndarray]] = []
        self.drawer, self.led, self.actions = 0.0, 0, list[np.ndarray]()

    def reset(self, robot: np.ndarray, scene: np.ndarray) -> None:
        self.resets.append((robot, scene))
        self.drawer = float(scene[1])

    def step(self, action: np.ndarray) -> World:
        self.actions.append(action)
        self.drawer += 0.025 * action[0]
        self.led = int(action[1] > 0)
        return self.world()

    def world(self) -> World:
        doors = {"base__slide": 0.0, "base__drawer": self.drawer}
        return World(0, frozenset(), {}, doors, {"led": self.led, "lightbulb": 0}, 5, {})

    def view(self) -> View:
        return View({}, ROBOT.copy(), ROBOT[:6])


class Policy:
    """Does what the sentence says, in chunks of 4; remembers the sentences."""

    def __init__(self, able: Any = ("drawer", "led")) -> None:
        self.asked: list[str] = []
        self.able = able

    def __call__(self, view: View, instruction: str) -> np.ndarray:
        self.asked.append(instruction)
        x = 1.0 if "open" in instruction else -1.0
        y = 1.0 if "led" in instruction else 0.0
        chosen = np.array([x * ("drawer" in instruction), y, 0, 0, 0, 0, 0.2])
        able = any(word in instruction for word in self.able)
        return np.tile(chosen * able, (4, 1))


def test_that_a_chain_of_tasks_is_done_one_after_another_without_a_reset() -> None:
    table, policy = Table(), Policy()
    outcome = run_chain(table, policy, Protocol(replan=3), STATE, TASKS)
    assert outcome.in_a_row == 3
    assert outcome.steps == [5, 1, 5]
    assert outcome.calls == len(policy.asked) == 2 + 1 + 2
    assert len(table.resets) == 1
    assert np.array_equal(table.resets[0][0], ROBOT)
    assert np.array_equal(table.resets[0][1], scene_of(STATE))


def test_that_each_task_begins_with_its_own_sentence_and_a_new_chunk() -> None:
    policy = Policy()
    run_chain(Table(), policy, Protocol(replan=4), STATE, TASKS)
    assert policy.asked == [
        *["pull the handle to open the drawer"] * 2,
        "press the button to turn on the led light",
        *["push the handle to close the drawer"] * 2,
    ]


def test_that_the_first_failure_ends_a_chain_after_exactly_its_steps() -> None:
    table, policy = Table(), Policy(able=("drawer",))
    outcome = run_chain(table, policy, Protocol(steps=20), STATE, TASKS)
    assert (outcome.in_a_row, outcome.steps) == (1, [5, 20])
    assert len(table.actions) == 25


def test_that_the_gripper_is_told_one_or_minus_one() -> None:
    table = Table()
    run_chain(table, Policy(), Protocol(), STATE, TASKS)
    assert {action[6] for action in table.actions} == {1.0}


def test_that_a_task_done_before_does_not_count_again() -> None:
    state = copy.deepcopy(STATE) | {"drawer": "open"}
    outcome = run_chain(Table(), Policy(), Protocol(steps=3), state, ["open_drawer"])
    assert (outcome.in_a_row, outcome.steps) == (0, [3])


def test_that_a_chunk_shorter_than_the_replan_interval_is_refused() -> None:
    with pytest.raises(CalvinError, match="--replan 4 or less"):
        run_chain(Table(), Policy(), replace(Protocol(), replan=5), STATE, TASKS)
