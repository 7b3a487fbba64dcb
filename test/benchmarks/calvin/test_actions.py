import math

import numpy as np
import pytest

from dfm_vla_ros.benchmarks.calvin.protocol import (
    METRES,
    GripperRule,
    commanded,
    commands,
    measured,
    to_absolute,
    to_relative,
    unbroken,
    wrapped,
)
from dfm_vla_ros.benchmarks.calvin.tasks import ROBOT
from dfm_vla_ros.errors import CalvinError

NORMAL = GripperRule()


def test_that_a_relative_action_of_one_is_two_centimetres_and_a_twentieth_of_a_radian() -> None:
    start = np.array([0.1, -0.2, 0.5, 3.0, 0.0, 1.5])
    (pose,) = to_absolute(np.array([[1, -1, 0.5, 1, 0, -1, -1.0]]), start)
    assert np.allclose(pose, [0.12, -0.22, 0.51, 3.05, 0.0, 1.45, -1])


def test_that_relative_and_absolute_actions_are_each_others_inverse() -> None:
    random = np.random.default_rng(0)
    relative = random.uniform(-1, 1, (20, 7))
    relative[:, 6] = np.sign(relative[:, 6])
    start = np.array([0.0, -0.1, 0.5, 3.1, 0.0, 1.5])
    absolute = to_absolute(relative, start)
    before = np.concatenate([np.append(start, 0)[None], absolute[:-1]])
    assert np.allclose(to_relative(absolute, before), relative)


def test_that_a_relative_action_takes_the_short_way_round_and_is_cut_to_a_step() -> None:
    here = np.array([0, 0, 0, math.pi - 0.01, 0, 0, 1.0])
    there = np.array([0.5, 0, 0, -math.pi + 0.01, 0, 0, -1.0])
    relative = to_relative(there, here)
    assert np.allclose(relative, [1, 0, 0, 0.4, 0, 0, -1])
    assert np.allclose(here[3], math.pi - 0.01), "the given pose is not changed"


def test_that_the_roll_does_not_jump_where_it_crosses_pi() -> None:
    rolls = np.linspace(math.pi - 0.1, math.pi + 0.1, 9)
    poses = np.zeros((9, 6))
    poses[:, 3], poses[:, 5] = wrapped(rolls), 1.5
    assert np.ptp(poses[:, 3]) > 6
    assert np.allclose(unbroken(poses)[:, 3], rolls)
    assert np.allclose(unbroken(poses)[:, [0, 1, 2, 4, 5]], poses[:, [0, 1, 2, 4, 5]])


@pytest.mark.parametrize(
    ("rule", "opens", "closes"),
    [
        (NORMAL, 0.01, -0.01),
        (GripperRule(opens=0.0, closes=1.0, threshold=0.5), 0.4, 0.6),
        (METRES, 0.07, 0.01),
    ],
)
def test_that_a_policys_gripper_becomes_minus_one_closed_and_plus_one_open(
    rule: GripperRule, opens: float, closes: float
) -> None:
    assert rule.command(np.array([opens, closes])).tolist() == [1, -1]
    assert rule.command(rule.value(np.array([1.0, -1.0]))).tolist() == [1, -1]


def test_that_a_threshold_outside_is_refused() -> None:
    with pytest.raises(CalvinError, match="between closed -1 and open 1"):
        GripperRule(threshold=2.0)


def test_that_actions_of_another_shape_are_refused() -> None:
    with pytest.raises(CalvinError, match=r"\(3, 14\), expected \(T, 7\)"):
        commands(np.zeros((3, 14)), NORMAL)
    assert commands(np.full((2, 7), 0.3), NORMAL).tolist() == [[0.3] * 6 + [1.0]] * 2


def test_that_a_policy_gets_as_many_numbers_as_it_was_trained_on() -> None:
    pose = ROBOT[:6] + 0.01
    assert np.array_equal(measured(ROBOT, 15), ROBOT)
    assert np.allclose(measured(ROBOT, 7), ROBOT[:7])
    assert np.allclose(commanded(pose, ROBOT, 7, METRES), [*pose, 0.08])
    with pytest.raises(CalvinError, match="14 state numbers"):
        measured(ROBOT, 14)
