from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from dfm_vla_ros.robot.joints import CAMERAS
from dfm_vla_ros.sim.model import OBJECTS
from dfm_vla_ros.sim.perturbations import NOISE_LEVELS, PERTURBATIONS, PUSH_M, Setting
from dfm_vla_ros.sim.tasks import TASKS
from dfm_vla_ros.sim.twin import Twin

SEED = 1_000_003


@pytest.fixture
def twin(twin: Twin) -> Iterator[Twin]:
    yield twin
    twin.setting = Setting()
    twin.reset("place_block", 0)


def start(
    twin: Twin, perturbation: str, task: str = "place_block", seed: int = SEED, varied: str = "off"
) -> None:
    twin.setting = Setting(varied, perturbation=perturbation)
    twin.reset(task, seed)


def wait(twin: Twin, seconds: float) -> None:
    for _ in range(round(seconds / twin.timestep_s)):
        twin.step()


def difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, float]:
    return {camera: float(np.abs(a[camera].astype(int) - b[camera]).mean()) for camera in CAMERAS}


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_that_the_same_seed_is_perturbed_alike(twin: Twin, name: str) -> None:
    seen = []
    for _ in range(2):
        start(twin, name)
        wait(twin, 1.2)
        seen.append((twin.render(), twin.scene.data.qpos.copy()))
    assert not any(difference(seen[0][0], seen[1][0]).values())
    np.testing.assert_array_equal(seen[0][1], seen[1][1])


def test_that_noise_has_its_level_and_is_fresh_at_each_moment_however_often_one_looks(
    twin: Twin,
) -> None:
    start(twin, "none")
    clean = twin.render()
    start(twin, "camera_noise")
    noisy, again = twin.render(), twin.render()
    middling = (clean["third"] > 80) & (clean["third"] < 175)
    noise = (noisy["third"].astype(float) - clean["third"])[middling]
    assert noise.std() == pytest.approx(NOISE_LEVELS, rel=0.1)
    assert not any(difference(noisy, again).values())
    twin.step()
    assert all(change > 10 for change in difference(noisy, twin.render()).values())


def test_that_the_third_camera_moves_and_the_others_stay(twin: Twin) -> None:
    start(twin, "none")
    clean, at = twin.render(), twin.scene.data.camera("third").xpos.copy()
    start(twin, "moved_camera")
    changed = difference(clean, twin.render())
    assert changed["third"] > 3
    assert np.linalg.norm(twin.scene.data.camera("third").xpos - at) == pytest.approx(0.05)
    assert max(changed["left_wrist"], changed["right_wrist"]) < 3


@pytest.mark.parametrize("camera", ["left_wrist", "right_wrist"])
def test_that_a_black_camera_is_black_from_the_start_and_alone(twin: Twin, camera: str) -> None:
    start(twin, f"{camera}_black")
    images = twin.render()
    assert [name for name in CAMERAS if not images[name].any()] == [camera]


@pytest.mark.parametrize("camera", ["left_wrist", "right_wrist"])
def test_that_a_frozen_camera_repeats_its_image_after_a_second(twin: Twin, camera: str) -> None:
    start(twin, f"{camera}_frozen")
    wait(twin, 1.05)
    seen = twin.render()
    twin.command(twin.positions + np.tile([0.2, 0, 0, 0, 0, 0, 0], 2))
    wait(twin, 0.6)
    changed = difference(seen, twin.render())
    assert [name for name in CAMERAS if not changed[name]] == [camera]


def test_that_changed_light_darkens_every_view_and_moves_nothing(twin: Twin) -> None:
    start(twin, "none")
    clean, poses = twin.render(), twin.poses()
    start(twin, "light")
    images = twin.render()
    assert all(images[camera].mean() < 0.9 * clean[camera].mean() for camera in CAMERAS)
    np.testing.assert_array_equal(twin.poses(), poses)


@pytest.mark.parametrize("task", TASKS)
def test_that_distractors_lie_apart_and_leave_the_tasks_objects_alone(
    twin: Twin, task: str
) -> None:
    for seed in range(8):
        start(twin, "none", task, seed)
        meant = {name for name in OBJECTS if twin.scene.on_table(name)}
        places = {name: twin.scene.object_position(name) for name in meant}
        start(twin, "distractors", task, seed)
        added = {name for name in OBJECTS if twin.scene.on_table(name)} - meant
        assert len(added) == {"place_veg": 1, "place_block": 2, "pot_lift": 3}[task]
        for name, place in places.items():
            np.testing.assert_array_equal(twin.scene.object_position(name), place)
            for other in added:
                gap = twin.scene.object_position(other) - place
                assert np.hypot(gap[0], gap[1]) > 0.12
    wait(twin, 1.0)
    assert twin.status().progress == 0.0


@pytest.mark.parametrize("task", TASKS)
def test_that_a_push_moves_the_object_by_4_cm_before_it_is_taken(twin: Twin, task: str) -> None:
    for seed in range(SEED, SEED + 2):
        start(twin, "pushed", task, seed)
        before = twin.scene.object_position(twin.task.grasped)
        wait(twin, 0.75)
        still = twin.scene.object_position(twin.task.grasped)
        np.testing.assert_allclose(still, before, atol=2e-3)
        wait(twin, 1.3)
        moved = twin.scene.object_position(twin.task.grasped) - before
        assert np.linalg.norm(moved[:2]) == pytest.approx(PUSH_M, abs=4e-3)
        assert twin.scene.lean(twin.task.grasped) < 0.1 or task == "place_veg"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["pushed", "distractors"])
def test_that_every_varied_layout_can_be_perturbed(twin: Twin, name: str, task: str) -> None:
    for seed in range(40):
        start(twin, name, task, seed, "layout")
