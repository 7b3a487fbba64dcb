"""Episodes of a benchmark: kept, gone on with, counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dfm_vla_ros.benchmarks import EpisodeOutcome
from dfm_vla_ros.benchmarks.results import (
    EPISODES,
    EpisodeBook,
    EpisodeProgress,
    average,
    markdown,
    success_rows,
)
from dfm_vla_ros.evaluation.statistics import wilson
from dfm_vla_ros.files import BookError

COMMON = {"checkpoint": "c0ffee", "preset": "openpi", "seed": 7}
WON = EpisodeOutcome("goal", "push", 0, True, 80, 2.0, details={"states": [1.5]})
LOST = EpisodeOutcome("goal", "push", 1, False, 300, 4.0)
BROKE = EpisodeOutcome("goal", "open", 0, False, 12, 1.0, error="the simulator has gone")


def test_that_a_book_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    book = EpisodeBook(tmp_path, COMMON)
    for episode in (WON, LOST, BROKE):
        book.keep(episode)
    with (tmp_path / EPISODES).open("a") as file:
        file.write('{"suite": "goal", "ta')  # killed while it wrote
    again = EpisodeBook(tmp_path, COMMON)
    assert again.episodes == [WON, LOST, BROKE]
    wanted = [("goal", "push", 0), ("goal", "push", 2), BROKE.episode]
    assert again.missing(wanted) == [("goal", "push", 2)]
    assert again.missing(wanted, again=True) == [("goal", "push", 2), BROKE.episode]
    again.keep(replace(BROKE, error="", success=True))
    assert EpisodeBook(tmp_path, COMMON).missing(wanted, again=True) == [("goal", "push", 2)]


def test_that_other_settings_and_damaged_lines_are_refused_by_name(tmp_path: Path) -> None:
    EpisodeBook(tmp_path, COMMON).keep(WON)
    with pytest.raises(BookError, match="preset 'openpi', not 'univla'"):
        EpisodeBook(tmp_path, {**COMMON, "preset": "univla"})
    with (tmp_path / EPISODES).open("a") as file:
        file.write('{"suite": "goal"}\n')
    with pytest.raises(BookError, match=r"episodes\.jsonl, line 3 is no episode: .*missing"):
        EpisodeBook(tmp_path, COMMON)


def test_that_errors_are_neither_successes_nor_failures() -> None:
    opened, pushed, suite = success_rows([WON, LOST, BROKE])
    assert (opened["task"], opened["successes"], opened["failures"], opened["errors"]) == (
        "open",
        0,
        0,
        1,
    )
    assert opened["rate"] is None
    assert (pushed["task"], pushed["successes"], pushed["failures"], pushed["errors"]) == (
        "push",
        1,
        1,
        0,
    )
    assert (suite["task"], suite["successes"], suite["failures"], suite["errors"]) == ("", 1, 1, 1)
    assert suite["interval"] == wilson(1, 2)
    assert suite["rate"] == 0.5
    assert suite["seconds"] == pytest.approx(7 / 3)


def test_that_an_error_counts_as_one_even_if_it_says_success() -> None:
    (row, _) = success_rows([replace(WON, error="broke while it closed")])
    assert (row["successes"], row["failures"], row["errors"]) == (0, 0, 1)


def test_that_the_average_is_of_suites_and_not_of_episodes() -> None:
    spatial = [replace(WON, suite="spatial", number=number) for number in range(8)]
    assert average(success_rows([WON, LOST, *spatial])) == 0.75
    assert average(success_rows([WON, replace(BROKE, suite="spatial")])) is None
    assert average([]) is None


def test_that_the_table_and_the_result_say_it_all(tmp_path: Path) -> None:
    book = EpisodeBook(tmp_path, COMMON)
    for episode in (WON, LOST, BROKE):
        book.keep(episode)
    lines = markdown(success_rows(book.episodes))
    assert lines[2] == "| goal | open | 0/0 | 0.0% to 100.0% | 1 |"
    assert lines[4] == "| goal | all | 1/2 = 50.0% | 9.5% to 90.5% | 1 |"
    content = json.loads(book.write({"gl": "egl"}).read_text())
    assert book.errors == [BROKE]
    assert (content["common"], content["gl"], content["average"]) == (COMMON, "egl", 0.5)
    assert [row["rate"] for row in content["rows"]] == [None, 0.5, 0.5]
    assert [error["error"] for error in content["errors"]] == ["the simulator has gone"]


def test_that_the_time_left_is_at_this_runs_rate() -> None:
    now = [0.0]
    progress = EpisodeProgress(10, done_before=4, clock=lambda: now[0])
    now[0] = 30.0
    assert progress.add(WON) == (
        "[5/10, 0:02:30 left, 1 successes, 0 errors] goal push 0: success after 80 steps, 2.0 s"
    )
    now[0] = 40.0
    assert progress.add(BROKE).endswith(
        "[6/10, 0:01:20 left, 1 successes, 1 errors] goal open 0: error: the simulator has gone"
    )
    assert progress.per_hour() == pytest.approx(180.0)
