"""Ages on two clocks, and joints at the moment of an image."""

from __future__ import annotations

import numpy as np
import pytest

from dfm_vla_ros.observing.sources import Bounds, EpisodeWatch, JointTrack, Moment, Source, ordered


def test_that_a_source_without_a_message_says_so() -> None:
    source: Source[int] = Source("third_camera/image_raw", Bounds(0.5))
    assert source.problem(Moment(0, 0)) == "third_camera/image_raw: no message yet"


def test_that_a_stale_source_is_named_with_age_and_bound() -> None:
    source: Source[int] = Source("joint_states", Bounds(0.5))
    source.put(1, 10.0, Moment(10.0, 100.0))
    assert source.problem(Moment(10.4, 100.4)) == ""
    assert source.problem(Moment(10.7, 100.4)) == "joint_states is 0.70 s old, allowed is 0.5 s"


def test_that_a_source_ages_even_while_simulated_time_stands_still() -> None:
    source: Source[int] = Source("joint_states", Bounds(0.5))
    source.put(1, 10.0, Moment(10.0, 100.0))
    assert source.problem(Moment(10.0, 102.0)) == "joint_states is 2.00 s old, allowed is 0.5 s"


def test_that_a_fault_lasts_until_a_good_message() -> None:
    source: Source[int] = Source("image", Bounds(0.5))
    source.refuse("encoding is 'yuv'")
    assert source.problem(Moment(0, 0)) == "image: encoding is 'yuv'"
    source.put(1, 0.0, Moment(0, 0))
    assert source.problem(Moment(0, 0)) == ""


@pytest.mark.parametrize(("skew_s", "side"), [(-0.31, "older"), (0.31, "newer")])
def test_that_a_source_apart_from_the_third_view_is_named(skew_s: float, side: str) -> None:
    source: Source[int] = Source("wrist", Bounds(0.5, 0.3))
    source.put(1, 10.0, Moment(10.0, 100.0))
    source.align(skew_s)
    expected = f"wrist is 0.31 s {side} than the third view, allowed is 0.3 s"
    assert source.problem(Moment(10.0, 100.0)) == expected
    source.align(0.0)
    assert source.problem(Moment(10.0, 100.0)) == ""


def test_that_a_stamp_in_the_future_hides_no_silence() -> None:
    source: Source[int] = Source("third", Bounds(0.5))
    source.put(1, 10.4, Moment(10.0, 100.0))
    assert source.problem(Moment(10.0, 100.0)) == ""
    assert source.problem(Moment(10.6, 100.6)) == "third is 0.60 s old, allowed is 0.5 s"
    source.put(1, 3610.0, Moment(10.0, 100.0))
    assert "3600.00 s ahead of this clock" in source.problem(Moment(10.0, 100.0))


def test_that_the_rate_is_that_of_the_last_messages_and_falls_in_silence() -> None:
    source: Source[int] = Source("third", Bounds(0.5))
    for i in range(40):
        source.put(i, i * 0.05, Moment(i * 0.05, i * 0.05))
    assert source.rate_hz(Moment(1.95, 1.95)) == pytest.approx(20.0)
    assert source.rate_hz(Moment(11.95, 11.95)) < 3.0


def track() -> JointTrack:
    made = JointTrack()
    for stamp in (1.0, 2.0):
        made.put(stamp, np.array([10 * stamp]), np.array([5.0]))
    return made


def test_that_joints_between_two_messages_lie_on_the_line_between_them() -> None:
    assert track().at(1.5) == 15.0
    assert track().at(2.0) == 20.0


def test_that_joints_after_the_newest_message_move_on() -> None:
    np.testing.assert_allclose(track().at(2.01), 20.05)
    np.testing.assert_allclose(track().at(9.0), 20.25)


def test_that_joints_before_the_oldest_message_are_the_oldest() -> None:
    assert track().at(0.5) == 10.0


def test_that_time_that_jumps_back_clears_the_track() -> None:
    made = track()
    made.put(0.1, np.array([7.0]), np.array([0.0]))
    assert made.at(2.0) == 7.0


def test_that_the_nearest_message_decides_the_distance() -> None:
    assert JointTrack().distance_s(1.0) == np.inf
    assert track().distance_s(1.2) == pytest.approx(-0.2)
    assert track().distance_s(1.9) == pytest.approx(0.1)
    assert track().distance_s(3.0) == pytest.approx(-1.0)


def test_that_a_joint_that_is_there_twice_is_no_joint() -> None:
    assert ordered(["a", "b", "a"], np.array([1.0, 2.0, 3.0]), ("b", "a")) is None


def test_that_joints_are_ordered_by_name() -> None:
    values = np.array([1.0, 2.0, 3.0])
    assert ordered(["a", "b", "c"], values, ("c", "a")).tolist() == [3.0, 1.0]
    assert ordered(["a", "b"], values, ("a",)) is None
    assert ordered(["a", "b", "c"], values, ("d",)) is None


def test_that_another_seed_or_less_time_elapsed_is_a_new_episode() -> None:
    watch = EpisodeWatch()
    assert not watch.is_new("place_block", 1, 5.0)
    assert not watch.is_new("place_block", 1, 5.1)
    assert watch.is_new("place_block", 1, 0.0)
    assert watch.is_new("place_block", 2, 0.1)
    assert watch.is_new("pot_lift", 2, 0.2)
