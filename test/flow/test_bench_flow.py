import json
from pathlib import Path

import pytest

from dfm_vla_ros.cli import main
from dfm_vla_ros.commands.bench import flow as bench


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SHAPES", ((1, 6, 16), (2, 6, 16)))


def forward(ratio: float) -> bench.Forward:
    return bench.Forward("folder", 6, 16, 2.0, 2.0 * ratio, ratio, 2.5 * ratio, 1.25 * ratio)


@pytest.mark.usefixtures("small")
def test_that_the_benchmark_prints_and_writes_a_row_for_each_shape_and_variant(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "measure_forward", lambda folder, repeats: None)
    file = tmp_path / "bench.json"
    assert main(["bench", "flow", "--repeats", "2", "--json", str(file)]) == 0
    content = json.loads(file.read_text())
    rows = [row for row in content["rows"] if row["device"] == "cpu"]
    assert [(row["batch"], row["path"], row["target"]) for row in rows] == [
        (batch, path, target)
        for batch in (1, 2)
        for path, target in (("metric", "median"), ("metric", "sample"), ("mixture", "sample"))
    ]
    assert all(row["ms_per_step"] > 0.0 and row["peak_logits"] > 1.0 for row in rows)
    assert content["forward"] is None
    printed = capsys.readouterr().out
    assert printed.count("\ncpu ") == 6
    assert "no shipped checkpoint" in printed


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("ratio", "status"), [(0.05, 0), (0.15, 1)])
def test_that_a_solver_above_a_tenth_of_a_forward_fails_the_benchmark(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ratio: float,
    status: int,
) -> None:
    monkeypatch.setattr(bench, "measure_forward", lambda folder, repeats: forward(ratio))
    assert main(["bench", "flow", "--repeats", "1"]) == status
    assert f"{100 * ratio:.1f}% of a forward (bound 10%)" in capsys.readouterr().out


def test_that_no_repeats_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "flow", "--repeats", "0"]) == 1
    assert "--repeats and --threads must be at least 1" in capsys.readouterr().err


def test_that_a_folder_without_checkpoint_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "SHAPES", ())
    assert main(["bench", "flow", "--checkpoint", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
