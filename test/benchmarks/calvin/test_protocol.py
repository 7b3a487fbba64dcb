import math

import numpy as np
import pytest

from dfm_vla_ros.benchmarks.calvin import (
    METRES,
    CalvinGripper,
    CalvinProtocol,
    commanded,
    measured,
    unbroken,
)
from dfm_vla_ros.benchmarks.calvin.tasks import ROBOT
from dfm_vla_ros.benchmarks.evaluation import find_preset, presets
from dfm_vla_ros.errors import BenchmarkError
from dfm_vla_ros.schema import parse

NORMAL = CalvinGripper()


def test_that_the_official_preset_has_the_official_numbers() -> None:
    official = find_preset(CalvinProtocol, "official")
    assert (official.steps, official.actions, official.rendering) == (360, "relative", "always")
    assert (official.renderer, official.scene) == ("egl", "calvin_scene_D")
    assert (official.gripper.opens, official.gripper.closes) == (1, -1)


def test_that_another_budget_has_another_name() -> None:
    assert presets(CalvinProtocol)["five_times_budget"].steps == 5 * 360
    assert find_preset(CalvinProtocol, "official", steps=1800).name == "official (steps 1800)"
    assert find_preset(CalvinProtocol, "official", steps=360, replan=None) == find_preset(
        CalvinProtocol, "official"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": "many"}, "steps is 'many', expected a whole number"),
        ({"actions": "sideways"}, "relative.*absolute"),
        ({"speed": 2}, "unknown key speed"),
        ({"gripper": {"closed": 1}}, "unknown key gripper.closed"),
    ],
)
def test_that_a_wrong_setting_is_named(content: dict[str, object], message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        parse(CalvinProtocol, content, "mine", BenchmarkError)


def test_that_the_roll_does_not_jump_where_it_crosses_pi() -> None:
    rolls = np.linspace(math.pi - 0.1, math.pi + 0.1, 9)
    poses = np.zeros((9, 6))
    poses[:, 3], poses[:, 5] = (rolls + math.pi) % (2 * math.pi) - math.pi, 1.5
    assert np.ptp(poses[:, 3]) > 6
    assert np.allclose(unbroken(poses)[:, 3], rolls)
    assert np.allclose(unbroken(poses)[:, [0, 1, 2, 4, 5]], poses[:, [0, 1, 2, 4, 5]])


@pytest.mark.parametrize(
    ("rule", "opens", "closes"),
    [
        (NORMAL, 0.01, -0.01),
        (CalvinGripper(opens=0.0, closes=1.0, threshold=0.5), 0.4, 0.6),
        (METRES, 0.07, 0.01),
    ],
)
def test_that_a_policys_gripper_becomes_minus_one_closed_and_plus_one_open(
    rule: CalvinGripper, opens: float, closes: float
) -> None:
    assert rule.command(np.array([opens, closes])).tolist() == [1, -1]
    assert rule.command(rule.value(np.array([1.0, -1.0]))).tolist() == [1, -1]


def test_that_a_threshold_outside_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="between closed -1 and open 1"):
        CalvinGripper(threshold=2.0)


def test_that_actions_of_another_shape_are_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"\(3, 14\), expected \(T, 7\)"):
        CalvinProtocol().commands(np.zeros((3, 14)))
    assert CalvinProtocol().commands(np.full((2, 7), 0.3)).tolist() == [[0.3] * 6 + [1.0]] * 2


def test_that_a_policy_gets_as_many_numbers_as_it_was_trained_on() -> None:
    pose = ROBOT[:6] + 0.01
    assert np.array_equal(measured(ROBOT, 15), ROBOT)
    assert np.allclose(measured(ROBOT, 7), ROBOT[:7])
    assert np.allclose(commanded(pose, ROBOT, 7, METRES), [*pose, 0.08])
    with pytest.raises(BenchmarkError, match="14 state numbers"):
        measured(ROBOT, 14)
