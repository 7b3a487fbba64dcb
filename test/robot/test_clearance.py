"""A motion that comes too close to something is refused, unless it leaves it."""

from __future__ import annotations

import numpy as np
import pytest
from robots import HOME
from test_joining import moved, ramp, ready

from dfm_vla_ros.robot.collision import Breach
from dfm_vla_ros.robot.executor import ChunkRefused, Verdict
from dfm_vla_ros.robot.joints import JOINT_NAMES


class Wall:
    """Joint 4 of the left arm comes within 20 mm of the wall at 0.08 rad, 1 m away.

    Within 20 mm of a shelf is what ``shelf_m`` says, always.
    """

    def __init__(self, shelf_m: float = 1.0) -> None:
        self.shelf_m = shelf_m

    def check(self, positions: np.ndarray) -> Breach | None:
        return min(self.breaches(positions), key=lambda found: found.distance_m, default=None)

    def breaches(self, positions: np.ndarray) -> list[Breach]:
        distance = 0.1 - positions[:, 3]
        nearest = int(np.argmin(distance))
        found = [
            Breach("left_link4", "wall", float(distance[nearest]), 0.02, nearest),
            Breach("left_link4", "shelf", self.shelf_m, 0.02, 0),
        ]
        return [breach for breach in found if breach.distance_m < 0.02 - 1e-9]


def test_that_a_motion_into_the_wall_is_refused_with_names_distance_bound_and_time() -> None:
    executor = ready(clearance=Wall())
    with pytest.raises(ChunkRefused) as caught:
        executor.receive(ramp(3, observation_s=0.0), 0.0)
    assert caught.value.verdict == Verdict.COLLISION and caught.value.verdict.brakes
    assert "left_link4 and wall would come within -0.0200 m" in str(caught.value)
    assert "allowed is 0.02 m, 0.80 s after" in str(caught.value)
    assert moved(executor, 1.0) == 0.0


def test_that_a_motion_that_keeps_its_distance_is_followed() -> None:
    executor = ready(clearance=Wall())
    executor.receive(ramp(2, observation_s=0.0), 0.0)
    assert moved(executor, 1.0) == pytest.approx(0.08)


def test_that_what_lies_between_the_steps_is_seen() -> None:
    """Fast there and back: no step lies beyond the bound, the curve between them does."""
    tokens = np.full((8, 14), 128)
    tokens[:, 3] += [8, 16, 16, 8, 0, 0, 0, 0]
    executor = ready(clearance=Wall())
    request = ramp(0, observation_s=0.0, tokens=tokens.ravel())
    with pytest.raises(ChunkRefused, match="left_link4 and wall"):
        executor.receive(request, 0.0)


def test_that_arms_too_close_may_leave_but_come_no_closer() -> None:
    close = HOME.copy()
    close[3] = 0.09
    executor = ready(clearance=Wall())
    executor.reset(0.1)
    executor.measure(JOINT_NAMES, close, 0.1)
    with pytest.raises(ChunkRefused, match="would come within"):
        executor.receive(ramp(1, close, observation_s=0.1), 0.1)
    executor.receive(ramp(0, close, observation_s=0.1), 0.1)
    executor.receive(ramp(-1, close, observation_s=0.1), 0.1)
    assert moved(executor, 2.0) == pytest.approx(0.05)


def test_that_braking_is_never_refused() -> None:
    executor = ready(clearance=Wall())
    executor.receive(ramp(2, observation_s=0.0), 0.0)
    assert executor.hold(0.3) is not None


def test_that_a_pair_that_was_too_close_before_hides_no_other() -> None:
    executor = ready(clearance=Wall(shelf_m=-0.05))
    executor.receive(ramp(2, observation_s=0.0), 0.0)  # close to the shelf, as at the start
    executor = ready(clearance=Wall(shelf_m=-0.05))
    with pytest.raises(ChunkRefused, match="left_link4 and wall"):
        executor.receive(ramp(3, observation_s=0.0), 0.0)
