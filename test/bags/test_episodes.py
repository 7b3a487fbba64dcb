"""Episodes of a bag: frames at the control rate, labels, goals, and gaps that nothing fills."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.bags.episodes import BagEpisodes, Cut, EpisodeSettings
from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.storage import make, typestore
from dfm_vla_ros.bags.synthetic import (
    LAG_S,
    START_NS,
    Recorded,
    Run,
    motion,
    picture,
    sorted_merge,
    write_messages,
)
from dfm_vla_ros.bags.topics import TopicChoice, find_topics
from dfm_vla_ros.errors import BagError
from dfm_vla_ros.observing.sources import ObserverSettings
from dfm_vla_ros.robot.joints import CAMERAS

RUN = Run(seconds=8.0, episode_s=8.0, side_px=16)
"""One goal, from 1.0 s to 7.0 s."""


class Made:
    """What became of a bag; arrays are copied, as an episode is valid until the next only."""

    def __init__(
        self,
        folder: Path,
        messages: Iterable[Recorded],
        choice: TopicChoice | None = None,
        **settings: object,
    ) -> None:
        path = write_messages(folder / "run", messages)
        with Bag(path) as bag:
            topics = find_topics(bag, choice or TopicChoice(), ObserverSettings())
            episodes = BagEpisodes(bag, topics, EpisodeSettings(**settings), folder)
            self.cuts: list[Cut] = []
            for cut in episodes:
                self.cuts.append(copy.deepcopy(cut))
            self.gaps = [gap.text(bag.start_ns) for gap in episodes.gaps]
            self.faults = [fault.text(bag.start_ns) for fault in bag.faults]


def without(
    messages: Iterable[Recorded], topic: str, from_s: float, to_s: float
) -> Iterable[Recorded]:
    """Drop what ``topic`` says in a time, counted from the first message."""
    start_ns = None
    for message in messages:
        start_ns = start_ns or message[2]
        at_s = (message[2] - start_ns) * 1e-9
        if topic not in message[0] or not from_s <= at_s < to_s:
            yield message


def shifted(
    messages: Iterable[Recorded], from_s: float, by_s: float, topic: str = ""
) -> Iterable[Recorded]:
    """Let the clock that makes stamps jump at a time."""
    start_ns = None
    for name, kind, received_ns, message in messages:
        start_ns = start_ns or received_ns
        if topic in name and (received_ns - start_ns) * 1e-9 >= from_s:
            stamp = message.header.stamp
            moved_ns = stamp.sec * 10**9 + stamp.nanosec + round(by_s * 1e9)
            stamp.sec, stamp.nanosec = divmod(moved_ns, 10**9)
        yield name, kind, received_ns, message


def test_that_frames_labels_and_pictures_are_those_of_their_moment(tmp_path: Path) -> None:
    (cut,) = Made(tmp_path, RUN.messages()).cuts
    episode = cut.episode
    times = 1.0 + 0.1 * np.arange(len(episode))
    assert len(episode) == 60
    expected = np.stack([motion(at)[0] for at in times])
    np.testing.assert_allclose(episode.commanded, expected, atol=1e-9)
    np.testing.assert_allclose(episode.targets, expected, atol=1e-6)
    measured = np.stack([motion(at - LAG_S)[0] for at in times])
    np.testing.assert_allclose(episode.positions, measured, atol=1e-9)
    for camera in CAMERAS:
        pictures = [picture(camera, round(at * 20), 16) for at in times]
        np.testing.assert_array_equal(episode.images[camera], pictures)
    assert (episode.task, episode.seed) == ("place_block", 0)
    assert episode.instruction == "place the block on the plate"
    assert episode.success
    assert cut.success


def test_that_each_goal_is_an_episode_and_what_is_between_is_none(tmp_path: Path) -> None:
    made = Made(tmp_path, Run(seconds=9.0, episode_s=3.0, side_px=16).messages(), shortest_s=0.5)
    assert [cut.frames for cut in made.cuts] == [10, 10, 10]
    assert [cut.episode.seed for cut in made.cuts] == [0, 1, 2]
    assert len({cut.key for cut in made.cuts}) == 3
    assert made.gaps == []
    assert made.faults == []


@pytest.mark.parametrize(
    ("split", "frames"), [("auto", [10, 10]), ("resets", [30, 30]), ("whole", [60])]
)
def test_that_a_bag_is_split_as_is_asked(tmp_path: Path, split: str, frames: list[int]) -> None:
    run = Run(seconds=6.0, episode_s=3.0, side_px=16)
    made = Made(tmp_path, run.messages(), split=split, instruction="go", shortest_s=0.5)
    found = [cut.frames for cut in made.cuts]
    assert np.abs(np.array(found) - frames).max() <= 1
    assert {cut.episode.instruction for cut in made.cuts} == {"go"}


def test_that_a_bag_without_statuses_needs_a_sentence(tmp_path: Path) -> None:
    run = Run(seconds=2.0, side_px=16, statuses=False)
    with pytest.raises(BagError, match=r"run does not say what is done from .*--instruction"):
        Made(tmp_path / "a", run.messages())
    (cut,) = Made(tmp_path / "b", run.messages(), instruction="wipe the Table!").cuts
    assert cut.success is None
    assert not cut.episode.success
    assert cut.episode.task == "wipe_the_table"


def test_that_a_robot_led_by_hand_is_labelled_with_where_it_was_a_period_later(
    tmp_path: Path,
) -> None:
    run = Run(seconds=3.0, side_px=16, statuses=False, commanded=False)
    with pytest.raises(BagError, match=r"commanded_joint_states.*--action-from joint_states"):
        Made(tmp_path / "a", run.messages(), instruction="go")
    choice = TopicChoice(action_from="joint_states")
    (cut,) = Made(tmp_path / "b", run.messages(), choice, instruction="go").cuts
    episode = cut.episode
    np.testing.assert_array_equal(episode.commanded, episode.positions)
    np.testing.assert_allclose(episode.targets[1:], episode.positions[1:], atol=1e-6)


def test_that_packed_images_are_the_same_frames(tmp_path: Path) -> None:
    raw = Made(tmp_path / "raw", Run(seconds=4.0, episode_s=4.0, side_px=16).messages())
    run = Run(seconds=4.0, episode_s=4.0, side_px=16, packed=True)
    packed = Made(tmp_path / "packed", run.messages())
    for camera in CAMERAS:
        np.testing.assert_array_equal(
            packed.cuts[0].episode.images[camera], raw.cuts[0].episode.images[camera]
        )


@pytest.mark.parametrize(
    ("topic", "lost_s", "said"),
    [
        ("third_camera", 0.3, "no usable image of /third_camera/image_raw for 0.4"),
        ("left_wrist_camera", 1.0, "left_wrist_camera/image_raw is 0.25 s older than the third"),
        ("/joint_states", 1.0, "joint_states is 0.2"),
    ],
)
def test_that_a_gap_ends_an_episode_and_is_reported_by_name_and_time(
    tmp_path: Path, topic: str, lost_s: float, said: str
) -> None:
    made = Made(tmp_path, without(RUN.messages(), topic, 3.0, 3.0 + lost_s))
    assert len(made.cuts) == 2
    (gap,) = made.gaps
    assert said in gap
    before, after = made.cuts
    assert 19 <= before.frames <= 23
    assert after.frames + before.frames < 60
    steps = np.abs(np.diff(before.episode.commanded, axis=0)).max()
    assert steps < 0.05, "no step across the gap"
    from_s, to_s = (float(word) for word in gap.replace(" s to", "").split(" s:")[0].split())
    assert 2.8 <= from_s <= 3.3
    assert to_s == pytest.approx(3.0 + lost_s, abs=0.16)
    assert [cut.success for cut in made.cuts] == [False, True]


def test_that_one_lost_image_between_frames_matters_to_nobody(tmp_path: Path) -> None:
    whole = Made(tmp_path / "whole", RUN.messages())
    lossy = Made(tmp_path / "lossy", without(RUN.messages(), "third_camera", 3.05, 3.09))
    assert lossy.gaps == []
    for one, other in zip(whole.cuts, lossy.cuts, strict=True):
        np.testing.assert_array_equal(one.episode.positions, other.episode.positions)


@pytest.mark.parametrize(("by_s", "way"), [(-2.0, "back"), (-0.3, "back"), (3.0, "forward")])
def test_that_a_clock_that_jumps_ends_an_episode_and_is_reported(
    tmp_path: Path, by_s: float, way: str
) -> None:
    made = Made(tmp_path, shifted(RUN.messages(), 4.0, by_s))
    assert len(made.cuts) == 2
    assert any("the clock jumped" in gap for gap in made.gaps)
    jumps = [fault for fault in made.faults if f"stamps went {way} by" in fault]
    assert len(jumps) == 5, "each source says so"
    assert all(" at 4.0" in fault for fault in jumps)
    for cut in made.cuts:
        assert np.abs(np.diff(cut.episode.commanded, axis=0)).max() < 0.05


def test_that_a_camera_with_a_clock_of_its_own_is_named(tmp_path: Path) -> None:
    made = Made(tmp_path, shifted(RUN.messages(), 0.0, 5.0, "right_wrist"))
    assert made.cuts == []
    assert "right_wrist_camera/image_raw is stamped" in made.gaps[0] or "newer" in made.gaps[0]


def test_that_without_stamps_the_time_of_receipt_counts_and_is_reported(tmp_path: Path) -> None:
    def unstamped() -> Iterable[Recorded]:
        for name, kind, received_ns, message in RUN.messages():
            if "status" not in name:
                message.header.stamp.sec = message.header.stamp.nanosec = 0
            yield name, kind, received_ns, message

    made = Made(tmp_path, unstamped())
    assert len(made.cuts) == 1
    assert sum("stamp is 0: the time of receipt is used" in fault for fault in made.faults) == 5


def test_that_late_messages_are_put_in_their_place(tmp_path: Path) -> None:
    def late() -> Iterable[Recorded]:
        found = []
        for name, kind, received_ns, message in RUN.messages():
            delay_ns = 300_000_000 if "wrist" in name else 0
            found.append((name, kind, received_ns + delay_ns, message))
        return sorted(found, key=lambda item: item[2])

    plain, delayed = Made(tmp_path / "a", RUN.messages()), Made(tmp_path / "b", late())
    assert delayed.gaps == []
    for camera in CAMERAS:
        np.testing.assert_array_equal(
            plain.cuts[0].episode.images[camera], delayed.cuts[0].episode.images[camera]
        )


def test_that_a_part_that_is_too_short_is_left_out_with_the_reason(tmp_path: Path) -> None:
    made = Made(tmp_path, without(RUN.messages(), "third_camera", 1.5, 2.0))
    short, rest = made.cuts
    assert short.episode is None
    assert "is shorter than 1.0 s" in short.why
    assert rest.episode is not None


def test_that_a_missing_camera_is_named_with_what_the_bag_holds(tmp_path: Path) -> None:
    messages = without(RUN.messages(), "left_wrist", 0.0, 99.0)
    with pytest.raises(BagError) as caught:
        Made(tmp_path, messages)
    said = str(caught.value)
    assert "lacks /left_wrist_camera/image_raw (left_wrist): give --topic NAME=TOPIC" in said
    assert "It holds /commanded_joint_states (sensor_msgs/msg/JointState)" in said


def test_that_topics_of_other_names_and_namespaces_are_found(tmp_path: Path) -> None:
    def renamed(change: Callable[[str], str]) -> Iterable[Recorded]:
        for name, kind, received_ns, message in RUN.messages():
            yield change(name), kind, received_ns, message

    plain = Made(tmp_path / "plain", RUN.messages())
    moved = Made(
        tmp_path / "moved",
        renamed(lambda name: f"/robot{name}"),
        TopicChoice(namespace="robot"),
    )
    other = Made(
        tmp_path / "other",
        renamed(lambda name: name.replace("/third_camera/image_raw", "/front")),
        TopicChoice(given={"third": "/front"}),
    )
    for made in (moved, other):
        np.testing.assert_array_equal(
            made.cuts[0].episode.images["third"], plain.cuts[0].episode.images["third"]
        )
    with pytest.raises(BagError, match="there is no source 'front'"):
        Made(tmp_path / "wrong", RUN.messages(), TopicChoice(given={"front": "/front"}))


def test_that_a_topic_of_another_type_is_refused(tmp_path: Path) -> None:
    choice = TopicChoice(given={"third": "/joint_states"})
    with pytest.raises(BagError, match=r"/joint_states is of type sensor_msgs/msg/JointState, th"):
        Made(tmp_path, RUN.messages(), choice)


@pytest.mark.parametrize("rate_hz", [10.0, 15.0, 30.0])
def test_that_cameras_of_other_rates_give_frames_at_the_control_rate(
    tmp_path: Path, rate_hz: float
) -> None:
    run = Run(seconds=6.0, image_hz=rate_hz, side_px=16, statuses=False)
    made = Made(tmp_path, run.messages(), instruction="go")
    assert made.gaps == []
    (cut,) = made.cuts
    assert 58 <= cut.frames <= 60


def test_that_a_reset_or_another_sentence_within_a_goal_begins_another_episode(
    tmp_path: Path,
) -> None:
    def changed() -> Iterable[Recorded]:
        for name, kind, received_ns, message in RUN.messages():
            at_s = (received_ns - START_NS) * 1e-9
            if name == "/task_status" and at_s > 3.0:
                message.seed, message.elapsed = 7, message.elapsed - 3.0
            if name == "/policy_node/status" and at_s > 5.0 and message.goal_id:
                message.instruction = "take it back"
            yield name, kind, received_ns, message

    made = Made(tmp_path, changed())
    assert [cut.episode.seed for cut in made.cuts] == [0, 7, 7]
    assert [cut.instruction for cut in made.cuts][1:] == [
        "place the block on the plate",
        "take it back",
    ]


def test_that_goals_are_known_by_their_chunks_alone(tmp_path: Path) -> None:
    store = typestore()

    def spoken() -> Iterable[Recorded]:
        for name, kind, received_ns, message in RUN.messages():
            if name != "/policy_node/status":
                yield name, kind, received_ns, message
            elif message.goal_id:
                stamp_ns = received_ns - 1_000_000
                chunk = make(store, "dfm_vla_ros/msg/ActionChunk", stamp_ns)
                chunk.goal_id, chunk.instruction = message.goal_id, "take it"
                yield "/action_chunk", "dfm_vla_ros/msg/ActionChunk", received_ns, chunk

    (cut,) = Made(tmp_path, spoken()).cuts
    assert cut.instruction == "take it"
    assert cut.frames == pytest.approx(70, abs=1), "to the end: nobody says when it ended"


def test_that_the_joint_states_of_two_drivers_are_one_robot(tmp_path: Path) -> None:
    store, kind = typestore(), "sensor_msgs/msg/JointState"
    names = [*(f"joint{i}" for i in range(1, 7)), "gripper"]

    def driven() -> Iterable[Recorded]:
        for name, _, received_ns, message in RUN.messages():
            if name != "/joint_states":
                yield name, _, received_ns, message
                continue
            for number, arm in enumerate(("left", "right")):
                own = make(store, kind)
                own.header, own.name = message.header, names
                half = slice(7 * number, 7 * number + 7)
                own.position, own.velocity = message.position[half], message.velocity[half]
                yield f"/{arm}_arm/joint_states", kind, received_ns, own

    driver = {"arm_joint_names": names, "gripper_scale": 1.0}
    plain = Made(tmp_path / "plain", RUN.messages())
    made = Made(tmp_path / "driven", driven(), TopicChoice(joint_states=driver))
    np.testing.assert_allclose(
        made.cuts[0].episode.positions, plain.cuts[0].episode.positions, atol=1e-9
    )


def test_that_cameras_may_come_each_in_its_own_way(tmp_path: Path) -> None:
    packed = Run(seconds=8.0, episode_s=8.0, side_px=16, packed=True).messages()
    left = (m for m in packed if "left_wrist" in m[0])
    others = (m for m in RUN.messages() if "left_wrist" not in m[0])
    mixed = sorted_merge([left, others])
    plain, made = Made(tmp_path / "plain", RUN.messages()), Made(tmp_path / "mixed", mixed)
    for camera in CAMERAS:
        np.testing.assert_array_equal(
            made.cuts[0].episode.images[camera], plain.cuts[0].episode.images[camera]
        )


def test_that_a_camera_slower_than_the_control_rate_makes_no_episode(tmp_path: Path) -> None:
    run = Run(seconds=3.0, image_hz=5.0, side_px=16, statuses=False)
    made = Made(tmp_path, run.messages(), instruction="go")
    assert all(cut.episode is None for cut in made.cuts)
    assert "no usable image of /third_camera/image_raw for 0.200 s" in made.gaps[0]
