"""Other cameras, arms, words and places."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from dfm_vla_ros.benchmarks import rebuilt
from dfm_vla_ros.benchmarks.evaluation import find_preset, presets
from dfm_vla_ros.benchmarks.libero import LiberoProtocol
from dfm_vla_ros.benchmarks.libero.evaluation import (
    LiberoPlan,
    changed_plan,
    find_variation,
)
from dfm_vla_ros.benchmarks.libero.scenes import (
    CameraShift,
    LightChange,
    SceneVariation,
    read_definitions,
    replace_goal,
    replace_kind,
    swap_places,
)
from dfm_vla_ros.benchmarks.libero.suites import LiberoTask
from dfm_vla_ros.errors import BenchmarkError, SceneError
from dfm_vla_ros.schema import parse

POSITION = np.array([0.6586, 0.0, 1.6104])
QUATERNION = np.array([0.638, 0.3048, 0.3048, 0.638])
PIVOT = np.array([0.0, 0.0, 0.8])
SCENE = """(define (problem X)
  (:language put the bowl on the plate)
  (:objects
    bowl_1 bowl_2 - bowl
    plate_1 - plate
  )
  (:obj_of_interest
    bowl_1
  )
  (:init
    (On bowl_1 table_bowl_region)
    (On plate_1 table_plate_region)
  )
  (:goal
    (And (On bowl_1 plate_1))
  )
)
"""


def direction(quaternion: np.ndarray) -> np.ndarray:
    """Return where a camera of this quaternion (w, x, y, z) looks."""
    return Rotation.from_quat(np.roll(quaternion, -1)).apply([0, 0, -1])


@pytest.mark.parametrize("degrees", [15, 75, 300])
def test_that_going_around_keeps_the_table_in_view(degrees: float) -> None:
    position, quaternion = CameraShift(around_deg=degrees).apply(POSITION, QUATERNION)
    turn = Rotation.from_euler("z", degrees, degrees=True)
    assert np.allclose(position, turn.apply(POSITION))
    assert np.allclose(direction(quaternion), turn.apply(direction(QUATERNION)), atol=1e-6)


def test_that_going_up_raises_the_camera_about_the_pivot() -> None:
    position, _ = CameraShift(up_deg=15).apply(POSITION, QUATERNION)
    assert position[2] > POSITION[2]
    assert np.linalg.norm(position - PIVOT) == pytest.approx(np.linalg.norm(POSITION - PIVOT))


def test_that_distance_scales_and_a_pan_turns_on_the_spot() -> None:
    far, _ = CameraShift(distance=1.5).apply(POSITION, QUATERNION)
    assert np.allclose(far - PIVOT, 1.5 * (POSITION - PIVOT))
    panned, quaternion = CameraShift(pan_deg=10).apply(POSITION, QUATERNION)
    assert np.allclose(panned, POSITION)
    turn = Rotation.from_euler("z", 10, degrees=True)
    assert np.allclose(direction(quaternion), turn.apply(direction(QUATERNION)), atol=1e-6)


def test_that_the_name_of_a_task_of_libero_plus_gives_its_camera() -> None:
    name = "put_the_bowl_on_the_plate_view_74_15_120_2_358_initstate_0"
    assert find_variation(name).camera == CameraShift(15, 74, 1.2, 2, 358)
    with pytest.raises(BenchmarkError, match="no _view_H_V_S_R_T_initstate_N"):
        CameraShift.of_name("put_the_bowl_on_the_plate_light_5")


def test_that_an_arm_starts_at_the_said_distance_and_the_same_each_time() -> None:
    variation = find_variation("arm_0.3")
    offsets = [variation.arm_offset(seed) for seed in range(20)]
    assert np.allclose(np.linalg.norm(offsets, axis=1), 0.3)
    assert np.array_equal(offsets[4], variation.arm_offset(4))
    assert len({tuple(offset) for offset in offsets}) == 20


def test_that_every_variation_is_read_back_as_it_was_recorded() -> None:
    found = presets(SceneVariation)
    assert {"camera_around_45", "light_dim", "arm_0.5", "words_1", "places_1"} <= set(found)
    for variation in [SceneVariation(), *found.values()]:
        assert (
            rebuilt(SceneVariation, asdict(variation), camera=CameraShift, light=LightChange)
            == variation
        )


def test_that_an_odd_variation_is_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"unknown key camera\.left"):
        parse(SceneVariation, {"camera": {"left": 3}}, "dark", BenchmarkError)
    with pytest.raises(BenchmarkError, match=r"light\.colour"):
        parse(SceneVariation, {"light": {"colour": [1.0, 1.0]}}, "dark", BenchmarkError)
    with pytest.raises(BenchmarkError, match="no variation 'fog'"):
        find_variation("fog")


def test_that_two_things_change_places_and_the_goal_stays() -> None:
    changed = swap_places(SCENE, "bowl_1", "plate_1")
    assert "(On plate_1 table_bowl_region)" in changed
    assert "(On bowl_1 table_plate_region)" in changed
    assert "(And (On bowl_1 plate_1))" in changed
    assert swap_places(changed, "bowl_1", "plate_1") == SCENE


def test_that_things_become_of_another_kind_with_their_names() -> None:
    assert "bowl_1 bowl_2 - white_bowl\n" in replace_kind(SCENE, "bowl", "white_bowl")
    with pytest.raises(SceneError, match="'mug'"):
        replace_kind(SCENE, "mug", "white_mug")


def test_that_a_goal_and_what_matters_are_replaced() -> None:
    changed = replace_goal(SCENE, "(And (On plate_1 bowl_1))", ["plate_1"])
    assert "(And (On plate_1 bowl_1))" in changed and "(And (On bowl_1 plate_1))" not in changed
    assert changed.count("(") == changed.count(")")


def test_that_definitions_change_the_tasks_that_have_them_and_name_the_others(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.bddl").write_text(SCENE)
    tasks = [
        LiberoTask("goal", 0, "put_it", "put it", tmp_path / "a.bddl", tmp_path),
        LiberoTask("goal", 1, "leave_it", "leave it", tmp_path / "a.bddl", tmp_path),
        LiberoTask("goal", 2, "lose_it", "lose it", tmp_path / "a.bddl", tmp_path),
    ]
    files = {
        "language": {"goal": {"put_it": ["set it down", "place it"]}},
        "spatial_relation": {"goal": {"put_it": {"bowl_1": ["plate_1"]}, "lose_it": {"a": ["b"]}}},
    }
    for kind, content in files.items():
        (tmp_path / f"ood_{kind}.yaml").write_text(yaml.safe_dump(content))
    said: list[str] = []
    plan = LiberoPlan(
        protocol=find_preset(LiberoProtocol, "openpi"), folder=tmp_path / "out", tasks=tasks
    )
    other = replace(plan, variation=SceneVariation(definitions="language", choice=1))
    changed = changed_plan(other, tmp_path, said.append)
    assert (changed.scenes, changed.words) == ({}, {"put_it": "place it"}) and len(said) == 2
    other = replace(plan, variation=SceneVariation(definitions="spatial_relation"))
    changed = changed_plan(other, tmp_path, said.append)
    assert "(On plate_1 table_bowl_region)" in changed.scenes["put_it"].read_text()
    assert list(changed.scenes) == ["put_it"] and any("lose_it" in line for line in said)
    assert changed.tasks == tasks[:1] and changed_plan(plan, None, said.append) == plan


def test_that_missing_definitions_say_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="give --definitions with libero_ood"):
        read_definitions(None, "language")
    with pytest.raises(BenchmarkError, match="is missing"):
        read_definitions(tmp_path, "language")
