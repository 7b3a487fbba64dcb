from __future__ import annotations

from pathlib import Path

import pytest

from dfm_vla_ros import cli
from dfm_vla_ros.sim import demonstrate


def test_that_experts_prints_a_count_and_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["experts", "--task", "place_block", "--episodes", "2"]) == 0
    assert "place_block: 2/2 (" in capsys.readouterr().out


def test_that_experts_counts_the_styles_of_several_ways(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--modes", "several", "--variation", "layout"]
    assert cli.main(["experts", "--task", "pot_lift", "--episodes", "3", *options]) == 0
    last, counts = capsys.readouterr().out.splitlines()
    assert last.startswith("pot_lift: 3/3")
    assert sum(int(part.rpartition(": ")[2]) for part in counts.split(", ")) == 3


def test_that_one_failed_expert_fails_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demonstrate, "_settle", lambda _: False)
    assert cli.main(["experts", "--task", "place_block", "--episodes", "1"]) == 1
    assert "seed 1000000: the task was not done" in capsys.readouterr().out


def test_that_an_unknown_task_fails_with_the_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["experts", "--task", "juggle"]) == 1
    assert "the tasks are pot_lift, place_veg, place_block" in capsys.readouterr().err


def test_that_the_sheet_is_a_picture(tmp_path: Path) -> None:
    sheet = tmp_path / "docs" / "sheet.png"
    assert cli.main(["experts", "--task", "place_block", "--sheet", str(sheet)]) == 0
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_that_the_benchmark_prints_a_line_for_each_task(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.main(["bench", "twin", "--seconds", "0.2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["pot_lift", "place_veg", "place_block"]
