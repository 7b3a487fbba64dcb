from __future__ import annotations

import mujoco
import numpy as np
import pytest

from dfm_vla_ros.sim.model import OBJECTS
from dfm_vla_ros.sim.tasks import TASKS
from dfm_vla_ros.sim.twin import HOME, Twin

PRESENT = {"pot_lift": {"pot"}, "place_block": {"block", "plate"}}


def named(twin: Twin) -> dict[str, float]:
    return dict(zip(twin.pose_names, twin.poses(), strict=True))


@pytest.mark.parametrize("task", TASKS)
def test_that_poses_have_the_same_names_in_every_task_and_absent_objects_are_zeros(
    twin: Twin, task: str
) -> None:
    twin.reset(task, 4)
    poses = twin.poses().reshape(len(OBJECTS), 5)
    assert twin.poses().shape == (len(twin.pose_names),)
    there = {name for name, pose in zip(OBJECTS, poses, strict=True) if pose.any()}
    if task == "place_veg":
        assert there - {"carrot", "cucumber"} == {"pot"}
        assert len(there) == 2
    else:
        assert there == PRESENT[task]
    for name, pose in zip(OBJECTS, poses, strict=True):
        assert np.hypot(*pose[3:]) == pytest.approx(float(name in there))


def test_that_poses_are_those_that_the_simulation_has(twin: Twin) -> None:
    twin.reset("pot_lift", 0)
    twin.scene.reset(HOME)
    twin.scene.place("pot", np.array([0.3, -0.02, 0.0]), yaw=0.25)
    twin.scene.place("plate", np.array([0.26, 0.01, 0.05]))
    mujoco.mj_forward(twin.scene.model, twin.scene.data)
    poses = named(twin)
    assert [poses[f"pot.{axis}"] for axis in "xyz"] == pytest.approx([0.3, -0.02, 0.0])
    assert np.arctan2(poses["pot.sin_yaw"], poses["pot.cos_yaw"]) == pytest.approx(0.25)
    assert poses["plate.z"] == pytest.approx(0.05)
    assert poses["plate.cos_yaw"] == pytest.approx(1.0)


def test_that_poses_are_those_of_this_moment_after_a_reset(twin: Twin) -> None:
    twin.reset("place_block", 3)
    first = twin.poses()
    twin.reset("pot_lift", 3)
    twin.reset("place_block", 3)
    np.testing.assert_array_equal(twin.poses(), first)
