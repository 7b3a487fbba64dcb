from __future__ import annotations

import numpy as np
import pytest

from dfm_vla_ros.errors import CommandRefused, UnknownTask
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES
from dfm_vla_ros.sim.experts import expert_targets
from dfm_vla_ros.sim.tasks import TASKS
from dfm_vla_ros.sim.twin import HOME, Twin


def play(twin: Twin, task: str, seed: int, periods: int) -> tuple[np.ndarray, bytes]:
    """Follow the expert for a while; return the whole state and the images."""
    twin.reset(task, seed)
    for target in expert_targets(task, twin)[:periods]:
        twin.command(target)
        for _ in range(20):
            twin.step()
    state = np.concatenate([twin.scene.data.qpos, twin.scene.data.qvel])
    return state, b"".join(image.tobytes() for image in twin.render().values())


@pytest.mark.parametrize("task", TASKS)
def test_that_the_same_seed_gives_the_same_episode_to_the_bit(twin: Twin, task: str) -> None:
    first = play(twin, task, 7, 25)
    play(twin, "place_block", 3, 25)
    again = play(twin, task, 7, 25)
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]


def test_that_a_fresh_twin_gives_the_same_episode_to_the_bit(twin: Twin) -> None:
    fresh = Twin()
    a, b = play(twin, "place_veg", 11, 20), play(fresh, "place_veg", 11, 20)
    fresh.close()
    np.testing.assert_array_equal(a[0], b[0])
    assert a[1] == b[1]


@pytest.mark.parametrize("task", TASKS)
def test_that_another_seed_gives_another_layout(twin: Twin, task: str) -> None:
    layouts = []
    for seed in (1, 2):
        twin.reset(task, seed)
        layouts.append((twin.scene.data.qpos.copy(), twin.scene.data.mocap_pos.copy()))
    assert any(not np.array_equal(a, b) for a, b in zip(*layouts, strict=True))


@pytest.mark.parametrize("task", TASKS)
def test_that_an_episode_starts_at_home_at_rest_and_holds(twin: Twin, task: str) -> None:
    twin.reset(task, 5)
    assert twin.time_s == 0.0
    np.testing.assert_array_equal(twin.positions, HOME)
    for _ in range(200):
        twin.step()
    np.testing.assert_allclose(twin.positions, HOME, atol=1e-4)
    np.testing.assert_allclose(twin.velocities, 0.0, atol=1e-4)
    status = twin.status()
    assert (status.task, status.seed, status.success, status.progress) == (task, 5, False, 0.0)
    assert status.elapsed_s == pytest.approx(1.0)


def test_that_joints_go_where_they_are_commanded(twin: Twin) -> None:
    twin.reset("place_block", 0)
    # Up and to the sides, away from table and objects; fingers half closed.
    target = HOME + np.tile([0.3, -0.2, 0.1, 0.1, 0.1, 0.4, -0.01], 2) * np.repeat([1, 1], 7)
    twin.command(target)
    for _ in range(300):
        twin.step()
    np.testing.assert_allclose(twin.positions, target, atol=2e-3)
    mimic = [twin.scene.data.joint(f"{arm}_gripper_mimic").qpos[0] for arm in ("left", "right")]
    np.testing.assert_allclose(mimic, target[[6, 13]], atol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.7, -2.7])
def test_that_a_bad_command_is_refused_and_the_last_one_kept(twin: Twin, bad: float) -> None:
    twin.reset("place_block", 0)
    command = HOME.copy()
    command[7] = bad
    with pytest.raises(CommandRefused, match=r"for right_joint1 is outside \[-2.6180, 2.6180\]"):
        twin.command(command)
    np.testing.assert_array_equal(twin.commanded, HOME)


def test_that_a_command_of_one_arm_is_refused(twin: Twin) -> None:
    with pytest.raises(CommandRefused, match="give 14 positions"):
        twin.command(np.zeros(7))


def test_that_an_unknown_task_is_answered_with_the_tasks(twin: Twin) -> None:
    twin.reset("pot_lift", 3)
    with pytest.raises(UnknownTask) as refused:
        twin.reset("fold_towel", 0)
    expected = "unknown task 'fold_towel'; the tasks are pot_lift, place_veg, place_block"
    assert str(refused.value) == expected
    assert twin.status().task == "pot_lift"


def test_that_cameras_have_the_size_asked_for_and_see_something() -> None:
    wide = Twin((160, 120))
    images = wide.render()
    wide.close()
    assert tuple(images) == CAMERAS
    for image in images.values():
        assert image.shape == (120, 160, 3)
        assert image.dtype == np.uint8
        assert image.std() > 10


@pytest.mark.parametrize("size", [(641, 480), (640, 481), (8, 96)])
def test_that_an_image_size_out_of_range_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(CommandRefused, match="is not between"):
        Twin(size)


def test_that_a_dark_camera_sees_black_and_the_others_still_see(twin: Twin) -> None:
    twin.reset("place_block", 0)
    seen = twin.render()
    twin.dark_cameras = ("left_wrist",)
    dark = twin.render()
    twin.dark_cameras = ()
    assert not dark["left_wrist"].any()
    np.testing.assert_array_equal(dark["third"], seen["third"])


def test_that_the_third_camera_sees_block_and_plate(twin: Twin) -> None:
    for seed in range(12):
        twin.reset("place_block", seed)
        image = twin.render()["third"].astype(int)
        red = (image[..., 0] > 100) & (image[..., 1:].max(axis=-1) < 60)
        blue = (image[..., 2] > 100) & (image[..., 0] < 90)
        assert red.sum() >= 6
        assert blue.sum() >= 60


def test_that_joint_limits_are_the_descriptions(twin: Twin) -> None:
    lower, upper = twin.limits
    assert lower[JOINT_NAMES.index("left_joint5")] == -1.22
    assert upper[JOINT_NAMES.index("right_gripper")] == 0.035
