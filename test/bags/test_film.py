"""Frames of a recording: grouped by stamp, cut into episodes, counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dfm_vla_ros.bags.film import (
    FilmEpisode,
    NothingRecorded,
    RecordedImages,
    read_images_of,
    write_contact_sheet,
    write_film,
)
from dfm_vla_ros.robot.joints import CAMERAS

MS = 1_000_000


def status(stamp_ms: int, seed: int, elapsed: float) -> tuple[int, SimpleNamespace]:
    said = SimpleNamespace(task="t", seed=seed, instruction=f"do {seed}", elapsed=elapsed)
    return stamp_ms * MS, said


def recording(lost: int | None = None) -> RecordedImages:
    """Ten frames, 50 ms apart; the episode with seed 1 ends at 250 ms."""
    views = dict.fromkeys(CAMERAS, np.zeros((2, 2, 3), np.uint8))
    images = {at * MS: views for at in range(0, 500, 50)}
    if lost is not None:
        images[lost * MS] = {"third": views["third"]}
    return RecordedImages([status(0, 1, 2.0), status(250, 2, 0.0)], images)


def test_that_a_reset_starts_an_episode() -> None:
    one, two = recording().episodes([1, 2])
    assert (one.caption, two.caption) == ("do 1", "do 2")
    assert [elapsed for elapsed, _ in one.frames] == pytest.approx([2.0, 2.05, 2.1, 2.15, 2.2])
    assert two.frames[0][0] == 0.0


def test_that_what_came_before_the_first_reset_is_left_out() -> None:
    (only,) = recording().episodes([2])
    assert only.caption == "do 2"


def test_that_a_frame_that_a_camera_missed_is_left_out_and_counted() -> None:
    made = recording(lost=100)
    assert len(made.episodes([1])[0].frames) == 4
    assert made.shares() == {"third": 1.0, "left_wrist": 0.9, "right_wrist": 0.9}


def test_that_an_empty_bag_is_refused(tmp_path: object) -> None:
    from dfm_vla_ros.bags.writing import BagWriter

    BagWriter(tmp_path / "bag").close()
    with pytest.raises(NothingRecorded, match="0 moments"):
        read_images_of(tmp_path / "bag")


@pytest.mark.parametrize("write", [write_film, write_contact_sheet])
@pytest.mark.parametrize("episodes", [[], [FilmEpisode("do 1")]])
def test_that_episodes_without_frames_are_refused_and_leave_no_file(
    tmp_path: Path, write: Callable, episodes: list[FilmEpisode]
) -> None:
    with pytest.raises(NothingRecorded, match="nothing to show"):
        write(episodes, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_that_an_episode_without_frames_has_no_rows_in_the_sheet(tmp_path: Path) -> None:
    import cv2

    write_contact_sheet([*recording().episodes([1]), FilmEpisode("do 2")], tmp_path / "sheet.png")
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[0] == 3 * 130
