"""``dfm-vla eval --report`` from checkpoint to page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from small import INSTRUCTION, small_checkpoint

from dfm_vla_ros.cli import main
from dfm_vla_ros.evaluation.runner import LoopConfig, load_loop
from dfm_vla_ros.robot.joints import CAMERAS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    small_checkpoint().save(folder, "random weights")
    return folder


def test_that_looking_on_changes_nothing(checkpoint: Path) -> None:
    loop = load_loop(checkpoint, LoopConfig(timeout_s=1.0))
    seen: list[Mapping[str, np.ndarray]] = []
    plain, watched = loop.run("place_block", 7), loop.run("place_block", 7, seen.append)
    loop.twin.close()
    assert replace(watched, inference_s=0.0) == replace(plain, inference_s=0.0)
    assert len(seen) == 10
    assert set(seen[0]) == set(CAMERAS)


def test_that_eval_writes_page_table_result_and_films(checkpoint: Path, tmp_path: Path) -> None:
    command = ["eval", "--checkpoint", str(checkpoint), "--episodes", "2", "--workers", "1"]
    assert main([*command, "--timeout", "1.0", "--report", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "result.json").read_text())["tasks"]
    assert (rows[0]["failures"], rows[0]["instruction"]) == (2, INSTRUCTION)
    films = sorted((tmp_path / "films").glob("place_block_100000?_failure.mp4"))
    assert len(films) == 2
    with av.open(str(films[0])) as film:
        assert sum(1 for _ in film.decode(video=0)) == 10
    assert (tmp_path / "index.html").stat().st_size < 2e6
    assert len((tmp_path / "episodes.csv").read_text().splitlines()) == 3


def test_that_a_wrong_result_is_refused_before_the_episodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["eval", "--report", str(tmp_path), "--beside", str(tmp_path / "no.json")])
    assert status == 1
    assert "no.json cannot be read" in capsys.readouterr().err
