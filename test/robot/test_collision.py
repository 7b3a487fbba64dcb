"""The collision model against geometry of our own, analytic cases and the experts' motions."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from shapes_reference import HOME, LIMITS, ROBOT, URDF, Arms, random_postures, table_distances

from dfm_vla_ros.robot.collision import CollisionModel
from dfm_vla_ros.robot.collision_scene import TABLE, Distances
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.model import UrdfError

Array = NDArray[np.float64]

MIRROR = np.array([-1, 1, 1, -1, 1, -1, 1] * 2)


@pytest.fixture(scope="module")
def model() -> CollisionModel:
    return CollisionModel(ROBOT)


def posture(**joints: float) -> Array:
    """Home but for the joints named."""
    found = HOME.copy()
    for name, value in joints.items():
        found[JOINT_NAMES.index(name)] = value
    return found


def leaning(angle: float) -> Array:
    """The left arm leant forward and down by ``angle``, fingers ahead."""
    return posture(left_joint2=HOME[1] + angle, left_joint3=HOME[2] - 0.6, left_joint5=0.33)


def mirrored(postures: Array) -> Array:
    """What the other arm does in a mirror between the two."""
    return (postures * MIRROR)[:, [*range(7, 14), *range(7)]]


# --- the two arms


def test_that_home_and_the_folded_pose_are_clear(model: CollisionModel) -> None:
    assert model.check(np.stack([HOME, np.zeros(14)])) is None


def test_that_arms_turned_at_each_other_are_refused_and_named(model: CollisionModel) -> None:
    turned = posture(left_joint1=-1.2, right_joint1=1.2)
    breach = model.check(np.stack([HOME, turned]))
    assert breach is not None and breach.index == 1
    assert {breach.first[:5], breach.second[:5]} == {"left_", "right"}
    assert breach.distance_m < breach.allowed_m == model.distances.arms_m


def test_that_an_arm_driven_into_the_table_is_refused_and_named(model: CollisionModel) -> None:
    path = np.stack([leaning(angle) for angle in np.linspace(0.0, 1.4, 20)])
    breach = model.check(path)
    assert breach is not None and breach.second == TABLE and breach.first.startswith("left_")
    assert breach.index == 19 and breach.distance_m < 0
    assert CollisionModel(ROBOT, table_height_m=None).check(path) is None
    assert CollisionModel(ROBOT, table_height_m=-0.7).check(path) is None


def test_that_fingers_may_press_as_deep_as_said_and_no_deeper() -> None:
    arms = Arms(URDF, JOINT_NAMES)
    lean = np.linspace(0.8, 1.4, 40)
    for allowed_m in (-0.06, 0.0, 0.005):
        model = CollisionModel(ROBOT, distances=Distances(fingers_m=allowed_m))
        below = 0
        for angle in lean:
            moved = leaning(angle)
            lowest = min(table_distances(arms, moved, finger=True).values())
            below += lowest < allowed_m
            if abs(lowest - allowed_m) > 1e-6:
                found = {(b.first, b.second) for b in model.breaches(moved[None])}
                pressed = found & {("left_finger", TABLE), ("left_finger_mimic", TABLE)}
                assert bool(pressed) == (lowest < allowed_m), (allowed_m, lowest)
        assert 0 < below < len(lean)


def test_that_an_arm_folded_back_onto_its_own_base_is_refused(model: CollisionModel) -> None:
    # joint1 turned round and the forearm let down behind: the gripper meets the stand.
    found = {
        (b.first, b.second): b
        for b in model.breaches(random_postures(300, 1))
        if b.first.startswith("right_") and b.second.startswith("right_")
    }
    breach = found["right_base_link", "right_gripper_base"]
    assert breach.distance_m < 0 and breach.allowed_m == model.distances.own_m


def test_that_mirrored_postures_have_mirrored_distances() -> None:
    hits, model = 0, CollisionModel(ROBOT, 0.05)
    for row in random_postures(200, 2, 0.7):
        one, other = model.check(row[None]), model.check(mirrored(row[None]))
        assert (one is None) == (other is None)
        if one is not None and other is not None and one.distance_m > 0:
            hits += 1
            assert one.distance_m == pytest.approx(other.distance_m, abs=1e-5)
            assert one.allowed_m == other.allowed_m
    assert hits > 5


def test_that_what_cannot_be_helped_does_not_count(model: CollisionModel) -> None:
    for arm in ("left", "right"):
        for pair in (
            (f"{arm}_base_link", TABLE),
            (f"{arm}_base_link", f"{arm}_link1"),
            (f"{arm}_link1", f"{arm}_link2"),
            (f"{arm}_link5", f"{arm}_gripper_base"),
            (f"{arm}_gripper_base", f"{arm}_finger"),
            (f"{arm}_finger", f"{arm}_finger_mimic"),
        ):
            assert pair not in model.pairs
    assert ("left_base_link", "right_base_link") not in model.pairs
    assert model.pairs["left_link3", "left_link5"] == model.distances.own_m
    assert model.pairs["left_finger", "right_base_link"] == model.distances.arms_m
    assert model.pairs["right_gripper_base", "third_camera_link"] == model.distances.arms_m
    assert model.pairs["left_gripper_base", TABLE] == model.distances.table_m
    assert model.pairs["right_finger_mimic", TABLE] == model.distances.fingers_m


def test_that_a_pair_too_close_in_every_posture_does_not_count() -> None:
    # link3 and link5 are never more than 5 cm apart, whatever joints 4 and 5 do.
    close = CollisionModel(ROBOT, 0.06, distances=Distances(own_m=0.06))
    assert ("left_link3", "left_link5") not in close.pairs
    assert ("left_link2", "left_link4") in close.pairs


def test_that_a_smaller_minimum_bounds_every_distance() -> None:
    model = CollisionModel(ROBOT, 0.003)
    assert max(model.pairs.values()) == 0.003
    assert model.pairs["left_finger", TABLE] == Distances().fingers_m


# --- motions that must pass


def expert_commands(task: str, seed: int, noise_rad: float) -> Array:
    """What the demonstration commands, between its targets too."""
    from scipy.interpolate import CubicSpline

    from dfm_vla_ros.sim.demonstrate import correlated_noise
    from dfm_vla_ros.sim.experts import expert_targets
    from dfm_vla_ros.sim.twin import HOME, Twin

    twin = Twin()
    twin.reset(task, seed)
    targets = np.concatenate([HOME[None], expert_targets(task, twin)])
    noisy = targets + correlated_noise(len(targets), noise_rad, seed)
    times = np.arange(len(noisy))
    fine = CubicSpline(times, noisy, bc_type="clamped")(np.arange(0, len(noisy) - 1, 0.2))
    return np.clip(fine, LIMITS.lower, LIMITS.upper)


@pytest.mark.parametrize("task", ["pot_lift", "place_veg", "place_block"])
def test_that_the_experts_commands_pass(model: CollisionModel, task: str) -> None:
    for seed, noise_rad in ((0, 0.0), (1, 0.02)):
        assert model.check(expert_commands(task, seed, noise_rad)) is None


@pytest.mark.slow
@pytest.mark.parametrize("task", ["pot_lift", "place_veg", "place_block"])
def test_that_many_demonstrations_pass(model: CollisionModel, task: str) -> None:
    for seed in range(20):
        for noise_rad in (0.0, 0.02):
            assert model.check(expert_commands(task, seed, noise_rad)) is None


# --- a good citizen


def test_that_32_postures_take_less_than_3_ms(model: CollisionModel) -> None:
    rows = random_postures(32, 4, 0.1)
    spent = []
    for _ in range(50):
        began = time.perf_counter()
        model.check(rows)
        spent.append(time.perf_counter() - began)
    assert np.median(spent) < 3e-3


def test_that_the_answer_does_not_depend_on_what_was_asked_before(model: CollisionModel) -> None:
    rows = random_postures(200, 5)
    together = [model.check(row[None]) for row in rows]
    again = [model.check(row[None]) for row in rows[::-1]][::-1]
    assert together == again
    fresh = CollisionModel(ROBOT)
    assert [fresh.check(row[None]) for row in rows] == together
    least = min((b for b in together if b), key=lambda b: b.distance_m)
    whole = model.check(rows)
    assert whole is not None and whole.distance_m == least.distance_m
    assert together[whole.index] is not None


def test_that_no_postures_break_nothing(model: CollisionModel) -> None:
    assert model.check(np.empty((0, 14))) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_that_a_posture_that_is_not_finite_is_refused(model: CollisionModel, value: float) -> None:
    with pytest.raises(UrdfError, match=r"posture 0: left_joint3 is .*, not finite"):
        model.check(posture(left_joint3=value)[None])


def test_that_postures_of_another_size_are_refused(model: CollisionModel) -> None:
    with pytest.raises(UrdfError, match=r"shape \(14,\), expected \(M, 14\)"):
        model.check(HOME)


@pytest.mark.parametrize("minimum_m", [0.0, -0.01, np.nan])
def test_that_a_minimum_that_is_not_positive_is_refused(minimum_m: float) -> None:
    with pytest.raises(UrdfError, match=r"minimum_distance is .* give a positive"):
        CollisionModel(ROBOT, minimum_m)
