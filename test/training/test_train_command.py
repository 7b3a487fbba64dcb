"""``dfm-vla train`` with episodes in the twin."""

from __future__ import annotations

from pathlib import Path

import pytest
from demonstrations import rows, small_run

from dfm_vla_ros.cli import main
from dfm_vla_ros.training.config import as_yaml


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_that_checkpoints_are_evaluated_in_the_twin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demos = tmp_path / "demos"
    collect = ["collect", "--task", "pot_lift", "--episodes", "2", "--out", str(demos)]
    assert main([*collect, "--no-images", "--workers", "1"]) == 0
    (tmp_path / "run.yaml").write_text(as_yaml(small_run(tmp_path, observation="poses")))
    settings = ["steps=4", "held_out=0", "keep_best=success"]
    settings += [f"evaluation.{key}" for key in ("every=4", "episodes=1", "timeout_s=0.5")]
    assert main(["train", "--config", str(tmp_path / "run.yaml"), *settings]) == 0
    assert "checkpoint: " in capsys.readouterr().out
    (row,) = rows(tmp_path / "run")
    assert (row["success"], row["success_pot_lift"], row["evaluation_errors"]) == ("0", "0", "0")
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file()
