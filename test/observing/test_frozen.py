"""A picture is frozen only if it repeats for long while joints that it shows move."""

from __future__ import annotations

import numpy as np
import pytest

from dfm_vla_ros.observing.cameras import FrozenPicture
from dfm_vla_ros.observing.sources import Moment

LEFT = np.array([True, False])


def picture(value: int) -> np.ndarray:
    return np.full((4, 4, 3), value, dtype=np.uint8)


def at(seconds: float) -> Moment:
    return Moment(seconds, 100.0 + seconds)


@pytest.fixture
def watch() -> FrozenPicture:
    """A camera on the left arm that shows the same picture from 0 s on."""
    made = FrozenPicture(1.0, 0.05, LEFT)
    for step in range(3):
        made.look(picture(7), at(step * 0.05))
    made.move(np.array([0.3, 0.0]))
    return made


def test_that_a_picture_that_repeats_while_its_arm_moves_is_frozen(watch: FrozenPicture) -> None:
    watch.move(np.array([0.37, 0.0]))
    assert watch.problem(at(0.99)) == ""
    said = watch.problem(at(1.2))
    assert said.startswith("frozen: the same picture for 1.20 s while joints moved 0.07 rad")
    assert said.endswith("allowed are 1.0 s and 0.05 rad")


def test_that_it_stays_frozen_when_the_arm_comes_back(watch: FrozenPicture) -> None:
    watch.move(np.array([0.37, 0.0]))
    watch.move(np.array([0.3, 0.0]))
    assert watch.problem(at(2.0)) != ""


@pytest.mark.parametrize("positions", [[0.34, 0.0], [0.3, 2.0]])
def test_that_little_motion_or_that_of_the_other_arm_freezes_nothing(
    watch: FrozenPicture, positions: list[float]
) -> None:
    watch.move(np.array(positions))
    assert watch.problem(at(9.0)) == ""


def test_that_one_changed_pixel_is_a_new_picture(watch: FrozenPicture) -> None:
    watch.move(np.array([0.37, 0.0]))
    other = picture(7)
    other[3, 3, 2] = 8
    watch.look(other, at(1.1))
    watch.look(other, at(1.15))
    assert watch.problem(at(1.2)) == ""
    watch.move(np.array([0.37, 0.0]))
    watch.move(np.array([0.45, 0.0]))
    assert watch.problem(at(2.2)) != ""


def test_that_a_camera_that_is_silent_is_not_called_frozen() -> None:
    watch = FrozenPicture(1.0, 0.05, LEFT)
    watch.look(picture(7), at(0.0))
    watch.move(np.array([0.0, 0.0]))
    watch.move(np.array([1.0, 0.0]))
    assert watch.problem(at(9.0)) == ""


def test_that_a_simulation_that_paused_freezes_nothing(watch: FrozenPicture) -> None:
    watch.move(np.array([0.37, 0.0]))
    assert watch.problem(Moment(0.5, 200.0)) == ""


def test_that_a_timeout_of_zero_turns_it_off() -> None:
    watch = FrozenPicture(0.0, 0.05, LEFT)
    for step in range(3):
        watch.look(picture(0), at(step * 0.05))
        watch.move(np.array([step, 0.0]))
    assert watch.problem(at(60.0)) == ""
