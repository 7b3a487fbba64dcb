import copy
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dfm_vla_ros.benchmarks.calvin.oracle import CHECKS, World, turn_deg
from dfm_vla_ros.benchmarks.calvin.tasks import TASKS

Info = dict[str, Any]
ROBOT, TABLE, RED, BLUE, PINK = 0, 5, 2, 3, 4
LINKS = {"base_link": -1, "plank_link": 3, "drawer_link": 4}
BODIES = {"block_red": RED, "block_blue": BLUE, "block_pink": PINK}


def _contact(body: int, link: int = -1) -> tuple[Any, ...]:
    return (0, 99, body, -1, link, (0, 0, 0))


def _block(uid: int) -> Info:
    return {
        "uid": uid,
        "current_pos": (0.1 * uid, -0.1, 0.46),
        "current_orn": (0.0, 0.0, 0.0, 1.0),
        "current_lin_vel": (0.0, 0.0, 0.0),
        "current_ang_vel": (0.0, 0.0, 0.0),
        "contacts": [_contact(TABLE), _contact(TABLE)],
    }


@pytest.fixture
def info() -> Info:
    return {
        "robot_info": {"uid": ROBOT, "contacts": []},
        "scene_info": {
            "fixed_objects": {"table": {"uid": TABLE, "links": LINKS}},
            "movable_objects": {name: _block(uid) for name, uid in BODIES.items()},
            "doors": {
                "base__slide": {"current_state": 0.0},
                "base__drawer": {"current_state": 0.0},
            },
            "lights": {"lightbulb": {"logical_state": 0}, "led": {"logical_state": 0}},
        },
    }


@pytest.fixture
def later(info: Info) -> Info:
    return copy.deepcopy(info)


def _found(start: Info, now: Info) -> set[str]:
    """All tasks that are done."""
    first, last = World(start), World(now)
    return {name for name in CHECKS if CHECKS[name](first, last)}


def _red(info: Info) -> Info:
    return info["scene_info"]["movable_objects"]["block_red"]


def _move(info: Info, dx: float = 0.0, dz: float = 0.0) -> None:
    x, y, z = _red(info)["current_pos"]
    _red(info)["current_pos"] = (x + dx, y, z + dz)


def test_that_every_task_has_a_check_and_a_sentence() -> None:
    assert set(CHECKS) == set(TASKS)
    assert TASKS["push_into_drawer"].sentence == "slide the block that it falls into the drawer"


def test_that_nothing_is_done_while_nothing_changes(info: Info, later: Info) -> None:
    assert _found(info, later) == set()


@pytest.mark.parametrize(
    ("joint", "start", "end", "expected"),
    [
        ("base__slide", 0.0, 0.16, {"move_slider_left"}),
        ("base__slide", 0.0, 0.15, set()),
        ("base__slide", 0.28, 0.12, {"move_slider_right"}),
        ("base__drawer", 0.0, 0.13, {"open_drawer"}),
        ("base__drawer", 0.22, 0.11, set()),
        ("base__drawer", 0.22, 0.09, {"close_drawer"}),
    ],
)
def test_that_doors_count_by_how_far_they_moved(
    info: Info, later: Info, joint: str, start: float, end: float, expected: set[str]
) -> None:
    info["scene_info"]["doors"][joint]["current_state"] = start
    later["scene_info"]["doors"][joint]["current_state"] = end
    assert _found(info, later) == expected


@pytest.mark.parametrize("light", ["lightbulb", "led"])
def test_that_lights_are_turned_on_and_off(info: Info, later: Info, light: str) -> None:
    later["scene_info"]["lights"][light]["logical_state"] = 1
    assert _found(info, later) == {f"turn_on_{light}"}
    assert _found(later, info) == {f"turn_off_{light}"}


@pytest.mark.parametrize(("dx", "side"), [(0.11, "right"), (-0.11, "left"), (0.09, None)])
def test_that_a_push_is_along_x_and_stays_on_the_table(
    info: Info, later: Info, dx: float, side: str | None
) -> None:
    _move(later, dx)
    assert _found(info, later) == ({f"push_red_block_{side}"} if side else set())
    _red(later)["contacts"] = [_contact(TABLE, LINKS["drawer_link"])]
    assert f"push_red_block_{side}" not in _found(info, later)


@pytest.mark.parametrize(
    ("degrees", "side"), [(61, "left"), (-61, "right"), (59, None), (-179, "right")]
)
def test_that_a_rotation_is_about_the_vertical_and_on_the_spot(
    info: Info, later: Info, degrees: float, side: str | None
) -> None:
    turn = Rotation.from_euler("z", degrees, degrees=True)
    _red(later)["current_orn"] = tuple(turn.as_quat())
    assert _found(info, later) == ({f"rotate_red_block_{side}"} if side else set())
    _red(later)["contacts"] = [_contact(ROBOT, 9)]
    assert _found(info, later) == set(), "held in the air"
    _red(later)["contacts"] = [_contact(ROBOT, 9), _contact(TABLE)]
    _move(later, dz=0.101)
    assert _found(info, later) == set(), "moved too far"


def test_that_a_tilted_block_was_not_rotated(info: Info, later: Info) -> None:
    _red(later)["current_orn"] = tuple(Rotation.from_euler("xyz", [31, 0, 70], True).as_quat())
    assert _found(info, later) == set()


def test_that_turns_are_the_euler_angles_about_fixed_axes() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        first, second = (
            Rotation.random(random_state=int(n)) for n in random.integers(1e6, size=2)
        )
        expected = (second * first.inv()).as_euler("xyz", degrees=True)
        found = turn_deg(first.as_quat(), second.as_quat())
        assert np.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("link", "height", "task"),
    [
        ("base_link", 0.051, "lift_red_block_table"),
        ("base_link", 0.049, None),
        ("plank_link", 0.031, "lift_red_block_slider"),
        ("drawer_link", 0.051, "lift_red_block_drawer"),
    ],
)
def test_that_a_lifted_block_touches_the_robot_alone(
    info: Info, later: Info, link: str, height: float, task: str | None
) -> None:
    _red(info)["contacts"] = [_contact(TABLE, LINKS[link])]
    _red(later)["contacts"] = [_contact(ROBOT, 9), _contact(ROBOT, 11)]
    _move(later, dz=height)
    assert _found(info, later) == ({task} if task else set())
    _red(later)["contacts"].append(_contact(TABLE, LINKS[link]))
    assert _found(info, later) == set()


@pytest.mark.parametrize(
    ("link", "task"), [("plank_link", "place_in_slider"), ("drawer_link", "place_in_drawer")]
)
def test_that_a_held_block_is_placed_when_it_is_let_go(
    info: Info, later: Info, link: str, task: str
) -> None:
    info["robot_info"]["contacts"] = [_contact(RED)]
    _red(info)["contacts"] = [_contact(ROBOT, 9)]
    _red(later)["contacts"] = [_contact(TABLE, LINKS[link])]
    assert _found(info, later) == {task}
    later["robot_info"]["contacts"] = [_contact(RED)]
    assert _found(info, later) == set(), "still held"


def test_that_a_block_pushed_into_the_drawer_counts_even_while_the_robot_touches_it(
    info: Info, later: Info
) -> None:
    _red(later)["contacts"] = [_contact(TABLE, LINKS["drawer_link"])]
    assert _found(info, later) == {"push_into_drawer"}
    # The official rule means to forbid it and does not.
    _red(later)["contacts"].append(_contact(ROBOT, 9))
    assert _found(info, later) == {"push_into_drawer"}
    _red(info)["contacts"].append(_contact(ROBOT, 9))
    assert _found(info, later) == set(), "touched at the start"


def test_that_a_stack_rests_on_blocks_alone(info: Info, later: Info) -> None:
    _red(info)["contacts"] = [_contact(ROBOT, 9)]
    _red(later)["contacts"] = [_contact(BLUE)]
    assert _found(info, later) == {"stack_block"}
    assert _found(later, info) == {"unstack_block"}
    _red(later)["current_ang_vel"] = (0.0, -1.5, 0.0)
    assert _found(info, later) == set(), "it is falling"
    _red(later)["contacts"].append(_contact(ROBOT, 9))
    _red(later)["current_ang_vel"] = (0.0, 0.0, 0.0)
    assert _found(info, later) == set(), "still held"
