from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from report_synthetic import film

from dfm_vla_ros.evaluation.report import (
    FILMS,
    LARGEST_FILMS,
    PAGE,
    RESULT,
    SHOWN,
    TABLE,
    ResultError,
    evaluation_run,
    read_result,
    write_folder,
)
from dfm_vla_ros.report.content import Film


def content(episodes: int = 12) -> dict[str, Any]:
    """Return a result as ``dfm-vla eval`` has it: every third episode fails, one is an error."""
    results = [
        {
            "seed": seed, "success": seed % 3 != 0, "progress": 0.4, "seconds": 7.5, "chunks": 19,
            "refused": 1, "inference_s": 0.07, "verdicts": {"WORKSPACE": 1},
        }
        for seed in range(episodes)
    ]  # fmt: skip
    successes = sum(result["success"] for result in results)
    row = {
        "task": "pot_lift", "successes": successes, "failures": episodes - successes, "errors": 1,
        "interval": [0.3, 0.9], "results": results, "instruction": "lift <b>the pot</b>",
        "messages": {"99": "the twin broke"},
    }  # fmt: skip
    return {
        "tasks": [row], "checkpoint": "abc", "seed": 0, "decoder": {"refinement_steps": 14},
        "loop": {"mode": "rtc"}, "versions": {"python": "3.11"}, "black_cameras": ["third"],
    }  # fmt: skip


def test_that_errors_are_counted_apart_from_failures() -> None:
    run = evaluation_run("default", content())
    assert (run.tasks[0].successes, run.tasks[0].episodes, run.tasks[0].errors) == (8, 12, 1)
    outcomes = [row.outcome for row in run.episodes]
    assert [outcomes.count(name) for name in ("success", "failure", "error")] == [8, 4, 1]
    assert run.episodes[-1].remark == "the twin broke"
    assert run.facts["black cameras"] == "third"


def test_that_the_folder_holds_page_result_table_and_all_films(tmp_path: Path) -> None:
    shown = film(0.5)
    films = {("pot_lift", seed): shown for seed in range(12)}
    page = write_folder(tmp_path / "out", "default", content(), films)
    assert page == tmp_path / "out" / PAGE
    assert json.loads((tmp_path / "out" / RESULT).read_text()) == content()
    with (tmp_path / "out" / TABLE).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 13
    assert rows[0]["outcome"] == "failure" and rows[0]["remark"] == "WORKSPACE x 1"
    names = sorted(path.name for path in (tmp_path / "out" / FILMS).iterdir())
    assert len(names) == 12
    assert "pot_lift_0_failure.mp4" in names and "pot_lift_1_success.mp4" in names
    shown_films = [part.split("</figure>")[0] for part in page.read_text().split("<video")[1:]]
    for outcome, count in SHOWN.items():
        assert sum(f": {outcome} " in film for film in shown_films) == count


def test_that_large_films_lie_beside_the_page(tmp_path: Path) -> None:
    films = {
        ("pot_lift", seed): Film(bytes([seed]) * 3_000_000, "video/mp4", "", 0, 1, 2, 2)
        for seed in range(4)
    }
    page = write_folder(tmp_path, "default", content(), films)
    assert page.stat().st_size < 1.4 * LARGEST_FILMS
    assert len(list((tmp_path / FILMS).iterdir())) == 4


def test_that_a_written_result_can_be_shown_beside_another(tmp_path: Path) -> None:
    write_folder(tmp_path / "first", "default", content(), {})
    other = read_result(tmp_path / "first" / RESULT)
    assert other.name == "first"
    page = write_folder(tmp_path / "second", "default", content(), {}, [other])
    assert "<td>default</td>" in page.read_text()
    assert "<td>first</td>" in page.read_text()


@pytest.mark.parametrize("text", ["", "[]", '{"tasks": 3}', "{}"])
def test_that_a_file_of_another_kind_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ResultError, match=r"other\.json does not hold the result of an eval"):
        read_result(tmp_path / "other.json")
    with pytest.raises(ResultError, match=r"gone\.json cannot be read: No such file"):
        read_result(tmp_path / "gone.json")
