from __future__ import annotations

import numpy as np
import pytest

from dfm_vla_ros.errors import UnknownTask
from dfm_vla_ros.sim.demonstrate import correlated_noise, demonstrate
from dfm_vla_ros.sim.experts import expert_targets
from dfm_vla_ros.sim.tasks import TASKS
from dfm_vla_ros.sim.twin import HOME, Twin

NOISE_RAD = 0.012


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("noise_rad", [0.0, NOISE_RAD])
def test_that_the_expert_succeeds(twin: Twin, task: str, noise_rad: float) -> None:
    seeds = range(2_000_000, 2_000_006)
    done = [demonstrate(twin, task, seed, noise_rad, images=False).success for seed in seeds]
    assert all(done)


@pytest.mark.parametrize("task", TASKS)
def test_that_targets_are_smooth_within_limits_and_slow(twin: Twin, task: str) -> None:
    lower, upper = twin.limits
    for seed in range(8):
        twin.reset(task, seed)
        targets = np.vstack([HOME, expert_targets(task, twin)])
        assert (targets >= lower - 1e-9).all()
        assert (targets <= upper + 1e-9).all()
        speed = np.abs(np.diff(targets, axis=0)) / 0.1
        assert speed[:, [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]].max() < 1.6
        assert speed[:, [5, 12]].max() < 2.2
        assert 55 <= len(targets) <= 90


@pytest.mark.parametrize("task", ["place_block", "place_veg"])
def test_that_the_arm_that_is_not_needed_stays_at_home(twin: Twin, task: str) -> None:
    sides = set()
    for seed in range(10):
        twin.reset(task, seed)
        moved = np.ptp(expert_targets(task, twin), axis=0) > 0
        idle = 7 if moved[:7].any() else 0
        assert not moved[idle : idle + 7].any()
        sides.add(idle)
    assert sides == {0, 7}


def test_that_the_expert_depends_on_the_reset_only(twin: Twin) -> None:
    twin.reset("pot_lift", 4)
    first = expert_targets("pot_lift", twin)
    np.testing.assert_array_equal(first, expert_targets("pot_lift", twin))


def test_that_an_expert_of_no_task_is_refused(twin: Twin) -> None:
    with pytest.raises(UnknownTask, match="no expert for task 'juggle'"):
        expert_targets("juggle", twin)


def test_that_noise_is_executed_and_labels_are_clean(twin: Twin) -> None:
    noisy = demonstrate(twin, "place_block", 12, NOISE_RAD, images=False)
    clean = demonstrate(twin, "place_block", 12, 0.0, images=False)
    np.testing.assert_array_equal(noisy.targets, clean.targets)
    np.testing.assert_array_equal(clean.commanded, clean.targets)
    off = np.abs(noisy.commanded - noisy.targets)
    assert 0.008 < off.max() <= NOISE_RAD + 1e-9
    assert not off[:, [6, 13]].any()
    assert not off[0].any()


def test_that_noise_is_correlated_and_repeats_with_the_seed() -> None:
    noise = correlated_noise(2000, NOISE_RAD, 3)[:, 0]
    assert np.corrcoef(noise[:-1], noise[1:])[0, 1] > 0.7
    np.testing.assert_array_equal(noise, correlated_noise(2000, NOISE_RAD, 3)[:, 0])


def test_that_a_frame_is_measured_and_seen_at_its_command(twin: Twin) -> None:
    episode = demonstrate(twin, "pot_lift", 1, 0.0)
    assert {images.shape for images in episode.images.values()} == {(len(episode), 96, 96, 3)}
    np.testing.assert_array_equal(episode.positions[0], HOME)
    # The joints lag the commands by a few hundredths of a second, and no more.
    arms = np.r_[0:6, 7:13]
    lag = np.abs(episode.positions - episode.commanded)[:, arms].max()
    assert lag < 0.12
