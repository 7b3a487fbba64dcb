"""Many conditions in one folder, continued after an interruption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from small import small_checkpoint

from dfm_vla_ros.cli import main
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.evaluation.motion import MotionRecord
from dfm_vla_ros.evaluation.robustness import CLEAN, EPISODES, ConditionBook, conditions, table
from dfm_vla_ros.evaluation.runner import SUCCESS, TIMEOUT, EpisodeResult
from dfm_vla_ros.sim.perturbations import PERTURBATIONS
from dfm_vla_ros.sim.tasks import TASKS

COMMON = {"checkpoint": "abc"}
DONE = EpisodeResult(
    "t", 1, True, 1.0, 8.0, 20, 1, 0.03, {"STALE": 1}, MotionRecord(seams=3), "do", SUCCESS,
    moved=("left",),
)  # fmt: skip


def failed(seed: int) -> EpisodeResult:
    return replace(DONE, seed=seed, success=False, ended=TIMEOUT, moved=())


@pytest.mark.parametrize("task", TASKS)
def test_that_every_perturbation_and_another_sentence_are_conditions(task: str) -> None:
    found = conditions(task)
    assert next(iter(found)) == CLEAN
    assert {c.setting.perturbation for c in found.values()} == set(PERTURBATIONS)
    told = {c.setting.instruction_of for c in found.values()} - {""}
    assert len(told) == 1 and told < set(TASKS) - {task}


def test_that_episodes_come_back_and_a_cut_line_is_run_again(tmp_path: Path) -> None:
    book = ConditionBook(tmp_path, COMMON)
    book.keep((CLEAN, "t", 1), DONE)
    book.keep((CLEAN, "t", 2), "no image")
    whole = (tmp_path / EPISODES).read_text()
    (tmp_path / EPISODES).write_text(whole + whole.splitlines()[1][:30])
    again = ConditionBook(tmp_path, COMMON)
    assert again.outcomes == {(CLEAN, "t", 1): DONE, (CLEAN, "t", 2): "no image"}
    again.keep((CLEAN, "t", 3), failed(3))
    (row,) = ConditionBook(tmp_path, COMMON).rows_of(CLEAN, range(10))
    assert (row["successes"], row["timeouts"], row["errors"]) == (1, 1, 1)


def test_that_a_folder_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    ConditionBook(tmp_path, COMMON)
    with pytest.raises(DfmVlaError, match="choose another folder"):
        ConditionBook(tmp_path, {"checkpoint": "def"})


def test_that_the_table_sets_each_condition_beside_the_clean_one(tmp_path: Path) -> None:
    book = ConditionBook(tmp_path, COMMON)
    for seed in range(8):
        book.keep((CLEAN, "t", seed), replace(DONE, seed=seed))
        book.keep(("light", "t", seed), failed(seed) if seed else replace(DONE, seed=0))
        book.keep(("pushed", "t", seed), replace(DONE, seed=seed))
    names = (CLEAN, "light", "pushed")
    results = {name: {"tasks": book.rows_of(name, range(8))} for name in names}
    clean, light, pushed = table(results)[2:]
    assert clean == "| t | clean | 8/8 | 68 to 100 | 8.0 s |  |  | left 8 |"
    assert light == "| t | light | 1/8 | 2 to 47 | 8.0 s | 7, 0 | 0.031 | left 1, none 7 |"
    assert pushed == "| t | pushed | 8/8 | 68 to 100 | 8.0 s | 0, 0 | 1 | left 8 |"


def test_that_the_command_continues_its_folder_and_writes_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_checkpoint().save(tmp_path / "c", "# test\n")
    given = ["bench", "robustness", "--checkpoint", str(tmp_path / "c"), "--tasks", "place_block"]
    given += [
        "--only",
        "light",
        "--workers",
        "1",
        "--timeout",
        "0.3",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main([*given, "--episodes", "1"]) == 0
    assert main([*given, "--episodes", "1"]) == 0
    assert "2 episodes present, 0 to run" in capsys.readouterr().out
    light = json.loads((tmp_path / "o" / "light.json").read_text())
    assert light["setting"]["perturbation"] == "light"
    assert light["tasks"][0]["timeouts"] == 1
    assert len((tmp_path / "o" / "table.md").read_text().splitlines()) == 4
    assert main(["compare", *(str(tmp_path / "o" / f"{n}.json") for n in ("clean", "light"))]) == 0
    assert main([*given[:-4], "--out", str(tmp_path / "o")]) == 1
    assert "choose another folder" in capsys.readouterr().err
