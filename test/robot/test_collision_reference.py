"""The collision model against distances worked out without MuJoCo, posture by posture."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from shapes_reference import ROBOT, TABLE, URDF, Arms, brute_force, random_postures

from dfm_vla_ros.robot.collision import CollisionModel
from dfm_vla_ros.robot.collision_scene import Distances
from dfm_vla_ros.robot.joints import JOINT_NAMES

Array = NDArray[np.float64]


def assert_agrees(model: CollisionModel, arms: Arms, row: Array) -> int:
    """Compare every breach of a posture; return how many there are."""
    expected = {
        pair: distance
        for pair, distance in brute_force(arms, model.pairs, row).items()
        if distance < model.pairs[pair]
    }
    found = {(b.first, b.second): b for b in model.breaches(row[None])}
    # The reference is never below the true distance, but creeps up on that of nearly parallel
    # faces; of overlaps it knows that they are.
    for pair, distance in expected.items():
        if distance < model.pairs[pair] - 1e-6:
            assert pair in found, (pair, distance)
    for pair, breach in found.items():
        distance = expected.get(pair, model.pairs[pair])
        assert breach.distance_m < distance + 1e-6, (pair, breach, distance)
        if pair[1] == TABLE or distance > 1e-3:
            assert breach.distance_m > distance - 5e-4, (pair, breach, distance)
    worst = model.check(row[None])
    least = min((b.distance_m for b in found.values()), default=None)
    assert (None if worst is None else worst.distance_m) == least
    return len(found)


@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_that_random_postures_agree_with_brute_force(spread: float) -> None:
    model = CollisionModel(ROBOT, 0.03, distances=Distances(own_m=0.015))
    arms = Arms(URDF, JOINT_NAMES)
    rows = random_postures(40, 3, spread)
    breaches = [assert_agrees(model, arms, row) for row in rows]
    assert sum(breaches) > 5 and 0 in breaches


def test_that_postures_that_rounded_contacts_get_wrong_agree_with_brute_force() -> None:
    # MuJoCo's contacts of shapes rounded by a margin call the first, 30 mm deep, 13 mm apart.
    model, arms = CollisionModel(ROBOT, 0.02), Arms(URDF, JOINT_NAMES)
    overlapping = random_postures(500, 12, 1.0)[181]
    found = {(b.first, b.second): b.distance_m for b in model.breaches(overlapping[None])}
    assert found["left_link1", "right_finger"] == pytest.approx(-0.0302, abs=1e-4)
    assert assert_agrees(model, arms, overlapping)
    assert assert_agrees(model, arms, random_postures(500, 11, 0.5)[269])


@pytest.mark.slow
def test_that_many_random_postures_agree_with_brute_force() -> None:
    model, arms = CollisionModel(ROBOT, 0.02), Arms(URDF, JOINT_NAMES)
    for seed, spread in ((10, 0.2), (11, 0.5), (12, 1.0)):
        for row in random_postures(500, seed, spread):
            assert_agrees(model, arms, row)
