from __future__ import annotations

import numpy as np
import pytest

from dfm_vla_ros.sim.experts import up
from dfm_vla_ros.sim.model import BLOCK_SIDE_M, VEGETABLES
from dfm_vla_ros.sim.tasks import PLATE, TASKS
from dfm_vla_ros.sim.twin import HOME, Twin

PLATE_HEIGHT_M = PLATE["plain"][2]


def wait(twin: Twin, seconds: float) -> None:
    for _ in range(round(seconds / twin.timestep_s)):
        twin.step()


def put(twin: Twin, name: str, position: list[float] | np.ndarray) -> None:
    twin.scene.place(name, np.asarray(position, dtype=float))


@pytest.mark.parametrize("height_m", [PLATE_HEIGHT_M[0], 0.05, PLATE_HEIGHT_M[1], 0.15])
def test_that_a_block_on_the_plate_counts_at_any_height(twin: Twin, height_m: float) -> None:
    twin.reset("place_block", 0)
    put(twin, "plate", [0.3, 0, height_m])
    put(twin, "block", [0.31, 0.01, height_m + BLOCK_SIDE_M / 2])
    wait(twin, 0.3)
    assert not twin.status().success
    wait(twin, 0.5)
    assert twin.status().success
    assert twin.status().progress == 1.0


@pytest.mark.parametrize("where", [[0.3, 0.11, 0.02], [0.3, 0.0, 0.4]])
def test_that_a_block_beside_or_above_the_plate_does_not_count(
    twin: Twin, where: list[float]
) -> None:
    twin.reset("place_block", 0)
    put(twin, "plate", [0.3, 0, 0.05])
    put(twin, "block", where)
    wait(twin, 0.15)
    assert not twin.task.condition(twin.scene)


def test_that_a_block_held_on_the_plate_does_not_count_until_it_is_let_go(twin: Twin) -> None:
    twin.reset("place_block", 0)
    tcp = twin.scene.data.body("left_tcp").xpos.copy()
    half = BLOCK_SIDE_M / 2
    put(twin, "plate", tcp - [0, 0, half])
    put(twin, "block", tcp)
    grip = HOME.copy()
    grip[6] = 0.008
    twin.command(grip)
    wait(twin, 1.5)
    assert "left" in twin.scene.held_by("block")
    assert not twin.status().success
    assert twin.status().progress == pytest.approx(0.8)
    twin.command(HOME)
    wait(twin, 1.0)
    assert twin.status().success


def test_that_plates_come_at_many_heights(twin: Twin) -> None:
    heights = []
    for seed in range(40):
        twin.reset("place_block", seed)
        heights.append(twin.scene.object_position("plate")[2])
    low, high = PLATE_HEIGHT_M
    assert low <= min(heights) < low + 0.015
    assert high - 0.015 < max(heights) <= high


def vegetable_of(twin: Twin) -> str:
    return next(name for name in VEGETABLES if twin.scene.on_table(name))


def test_that_a_vegetable_dropped_into_the_pot_counts(twin: Twin) -> None:
    twin.reset("place_veg", 0)
    pot = twin.scene.object_position("pot")
    put(twin, vegetable_of(twin), pot + up(0.06))
    wait(twin, 1.2)
    assert twin.status().success


def test_that_a_vegetable_beside_the_pot_or_in_a_fallen_pot_does_not_count(twin: Twin) -> None:
    twin.reset("place_veg", 0)
    wait(twin, 0.7)
    assert not twin.status().success
    pot = twin.scene.object_position("pot")
    put(twin, vegetable_of(twin), pot + up(0.03))
    start = twin.scene.model.joint("pot").qposadr[0]
    twin.scene.data.qpos[start + 3 : start + 7] = [np.cos(0.2), np.sin(0.2), 0, 0]
    twin.scene.data.qpos[start + 2] += 0.1
    twin.step()
    assert not twin.task.condition(twin.scene)


def test_that_a_vegetable_stays_where_it_is_put(twin: Twin) -> None:
    twin.reset("place_veg", 3)
    name = vegetable_of(twin)
    before = twin.scene.object_position(name)
    wait(twin, 3.0)
    np.testing.assert_allclose(twin.scene.object_position(name), before, atol=2e-3)


def hold_pot(twin: Twin, height_m: float, lean_rad: float, seconds: float) -> None:
    """Keep the pot in the air as hands would."""
    joint = twin.scene.model.joint("pot")
    pose = [0.3, 0, height_m, np.cos(lean_rad / 2), np.sin(lean_rad / 2), 0, 0]
    for _ in range(round(seconds / twin.timestep_s)):
        twin.scene.data.qpos[joint.qposadr[0] : joint.qposadr[0] + 7] = pose
        twin.scene.data.qvel[joint.dofadr[0] : joint.dofadr[0] + 6] = 0
        twin.step()


def test_that_a_pot_held_high_and_level_for_a_second_counts(twin: Twin) -> None:
    twin.reset("pot_lift", 0)
    hold_pot(twin, 0.11, np.radians(10), 0.95)
    assert not twin.status().success
    hold_pot(twin, 0.11, np.radians(10), 0.2)
    assert twin.status().success


@pytest.mark.parametrize(("height_m", "lean_deg"), [(0.09, 0), (0.13, 20)])
def test_that_a_low_or_leaning_pot_does_not_count(
    twin: Twin, height_m: float, lean_deg: float
) -> None:
    twin.reset("pot_lift", 0)
    hold_pot(twin, height_m, np.radians(lean_deg), 1.5)
    assert not twin.status().success


@pytest.mark.parametrize("task", TASKS)
def test_that_objects_of_other_tasks_are_out_of_sight(twin: Twin, task: str) -> None:
    twin.reset(task, 0)
    used = {"pot_lift": {"pot"}, "place_block": {"block", "plate"}}
    expected = used.get(task) or {"pot", vegetable_of(twin)}
    positions = {
        name: twin.scene.object_position(name) for name in ("block", "plate", "pot", *VEGETABLES)
    }
    assert {name for name, position in positions.items() if position[0] > -1} == expected


@pytest.mark.parametrize("task", TASKS)
def test_that_each_task_has_a_sentence_of_its_own(twin: Twin, task: str) -> None:
    twin.reset(task, 0)
    assert twin.instruction == TASKS[task].instruction
    assert len({kind.instruction for kind in TASKS.values()}) == len(TASKS)
