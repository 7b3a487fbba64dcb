"""What a replay reads of a bag, and bags that say less than a policy node's."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from small import small_checkpoint

from dfm_vla_ros.bags.reading import Bag, BagError
from dfm_vla_ros.bags.records import (
    WANTED,
    JointSeries,
    TopicRates,
    read_recording,
    relative_topics,
)
from dfm_vla_ros.bags.replay import ReplayRequest, deal, replay_bag
from dfm_vla_ros.bags.replay_breaking import UnknownFault, broken_copy
from dfm_vla_ros.bags.show import NoRerun, check_rerun, read_images
from dfm_vla_ros.bags.synthetic import Run, write_messages
from dfm_vla_ros.robot.joints import JOINT_NAMES

SECOND = 10**9


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of a robot that somebody else moves: no chunks."""
    run = Run(seconds=3.0, episode_s=3.0, side_px=48)
    return write_messages(tmp_path_factory.mktemp("recorded") / "run", list(run.messages()))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    small_checkpoint().save(folder, "random weights")
    return folder


def test_that_a_bag_without_chunks_is_looked_at_as_the_policy_would(
    bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    done = replay_bag(
        ReplayRequest(bag, (checkpoint,), instruction="place the block on the plate")
    )
    (run,) = done.runs
    assert 6 <= len(run.answers) <= 8
    assert run.compared == 0
    assert not done.problems
    (content,) = done.content()
    assert np.isfinite(content.commanded[10:-10]).all()
    assert content.films[0].duration_s == pytest.approx(3.0, abs=0.3)
    assert done.write_page(tmp_path / "page.html") < 3e6


def test_that_the_looks_fall_on_images_with_the_joints_of_that_moment(
    bag: Path, checkpoint: Path
) -> None:
    done = replay_bag(
        ReplayRequest(bag, (checkpoint,), instruction="place the block", with_film=False)
    )
    for record in done.recording.chunks:
        assert set(record.image_stamps.values()) == {record.stamp_ns}
        expected = done.recording.joints["commanded_joint_states"].at(np.array([record.stamp_ns]))
        np.testing.assert_allclose(record.reference, expected[0], atol=2e-3)


def test_that_the_namespace_with_most_topics_is_taken_unless_one_is_named() -> None:
    class Held:
        topics = dict.fromkeys(
            ("/one/joint_states", "/two/joint_states", "/two/action_chunk", "/clock"), ""
        )

    wanted = ("joint_states", "action_chunk", "task_status")
    assert relative_topics(Held(), wanted) == {
        "joint_states": "/two/joint_states",
        "action_chunk": "/two/action_chunk",
    }
    assert relative_topics(Held(), wanted, "one") == {"joint_states": "/one/joint_states"}
    assert relative_topics(Held(), ("image",)) == {}


def test_that_a_file_that_is_no_bag_is_refused_with_what_is_wrong(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.mcap"
    foreign.write_bytes(b"not a recording")
    with pytest.raises(BagError, match=r"it holds nothing; foreign.mcap.*"):
        replay_bag(ReplayRequest(foreign, ()))


@pytest.mark.parametrize(("count", "processes"), [(0, 2), (10, 2), (144, 2), (144, 3), (300, 1)])
def test_that_every_chunk_is_dealt_out_once_and_most_to_the_process_that_is_ready(
    count: int, processes: int
) -> None:
    parts = deal(tuple(range(count)), processes)
    assert [number for part in parts for number in part] == list(range(count))
    assert len(parts) <= processes
    assert all(len(parts[0]) >= len(part) > 0 for part in parts[1:])


def test_that_rates_tell_gaps_and_stamps_that_go_back() -> None:
    rates = TopicRates()
    for number in [*range(20), *range(40, 60), 59, 58]:
        rates.take("camera", SECOND + number * SECOND // 20)
    found = rates.topics()["camera"]
    assert found.rate_hz == pytest.approx(20.0)
    assert found.longest_gap_s == pytest.approx(1.05)
    assert found.gaps == [(SECOND + 19 * SECOND // 20, SECOND + 40 * SECOND // 20)]
    assert found.backward == 1


class State:
    """A JointState of all joints at one value."""

    def __init__(self, at_s: float, value: float) -> None:
        class Stamp:
            sec, nanosec = divmod(round(at_s * SECOND), SECOND)

        self.header = type("Header", (), {"stamp": Stamp})
        self.name, self.position = list(JOINT_NAMES), np.full(len(JOINT_NAMES), value)


def test_that_joints_are_interpolated_and_unknown_in_a_gap() -> None:
    series = JointSeries()
    for at_s, value in ((1.0, 0.0), (1.1, 1.0), (3.0, 2.0)):
        series.take(State(at_s, value))
    stamps = np.round(np.array([1.0, 1.05, 2.0, 2.95]) * SECOND).astype(np.int64)
    found = series.at(stamps)[:, 0]
    np.testing.assert_allclose(found[:2], [0.0, 0.5])
    assert np.isnan(found[2])
    assert np.isfinite(found[3])


def test_that_joint_states_that_are_not_finite_are_counted() -> None:
    series = JointSeries()
    series.take(State(1.0, np.nan))
    assert series.unusable == 1
    assert np.isnan(series.at(np.array([SECOND]))).all()


def test_that_swapped_cameras_show_each_others_pictures(bag: Path, tmp_path: Path) -> None:
    copy = broken_copy(bag, tmp_path / "copy", "swap_wrists")
    before, after = first_pictures(bag), first_pictures(copy)
    assert (before["left_wrist"] == after["right_wrist"]).all()
    assert (before["right_wrist"] == after["left_wrist"]).all()
    assert (before["third"] == after["third"]).all()


def test_that_a_copy_in_bgr_has_red_and_blue_exchanged(bag: Path, tmp_path: Path) -> None:
    copy = broken_copy(bag, tmp_path / "copy", "bgr")
    before, after = first_pictures(bag), first_pictures(copy)
    for camera, picture in before.items():
        assert (after[camera] == picture[..., ::-1]).all()


def test_that_a_camera_that_was_moved_shows_its_picture_elsewhere(
    bag: Path, tmp_path: Path
) -> None:
    copy = broken_copy(bag, tmp_path / "copy", "stale_calibration")
    before, after = first_pictures(bag), first_pictures(copy)
    shift = round(0.09 * 48)
    assert (after["third"][shift:, shift:] == before["third"][:-shift, :-shift]).all()
    assert (after["left_wrist"] == before["left_wrist"]).all()


def test_that_a_scaled_gripper_leaves_the_other_joints_and_the_commands(
    bag: Path, tmp_path: Path
) -> None:
    copy = broken_copy(bag, tmp_path / "copy", "gripper_scale")
    before, after = joints(bag), joints(copy)
    expected = before["joint_states"].copy()
    expected[:, [6, 13]] *= 2
    np.testing.assert_allclose(after["joint_states"], expected)
    np.testing.assert_allclose(after["commanded_joint_states"], before["commanded_joint_states"])


def test_that_an_unknown_fault_and_the_bag_itself_are_refused(bag: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownFault, match="no fault 'melted'; give one of swap_wrists"):
        broken_copy(bag, tmp_path / "copy", "melted")
    with pytest.raises(UnknownFault, match="would be overwritten"):
        broken_copy(bag, bag, "bgr")


def test_that_rerun_is_asked_for_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(NoRerun, match=r'pip install "rerun-sdk'):
        check_rerun()


def first_pictures(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with Bag(path) as bag:
        for camera, _, pixels in read_images(bag, relative_topics(bag, WANTED)):
            found.setdefault(camera, pixels)
    return found


def joints(path: Path) -> dict[str, np.ndarray]:
    with Bag(path) as bag:
        recording = read_recording(bag, relative_topics(bag, WANTED))
    begin, end = recording.rates.span_ns
    stamps = np.arange(begin + SECOND, end - SECOND, SECOND // 10)
    return {topic: series.at(stamps) for topic, series in recording.joints.items()}
