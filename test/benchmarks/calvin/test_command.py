import json
from pathlib import Path

import pytest

from dfm_vla_ros.benchmarks.calvin.sequences import initial_states
from dfm_vla_ros.cli import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "let CALVIN_ENV name a checkout"),
        (["--chains", "5"], "give A:B"),
        (["--preset", "none"], "there are official"),
        (["--camera", "third=side"], "give NAME=static"),
    ],
)
def test_that_a_wrong_command_line_says_what_to_do(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("CALVIN_ENV", raising=False)
    path = tmp_path / "list.json"
    path.write_text(json.dumps([[state, ["open_drawer"]] for state in initial_states()[:6]]))
    common = ["calvin", "eval", "--out", str(tmp_path / "out"), "--list", str(path)]
    assert main([*common, *arguments]) == 1
    assert message in capsys.readouterr().err


def test_that_the_simulators_folder_is_checked_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALVIN_ENV", str(tmp_path))
    path = tmp_path / "list.json"
    path.write_text(json.dumps([[initial_states()[0], ["open_drawer"]]]))
    assert main(["calvin", "eval", "--out", str(tmp_path / "out"), "--list", str(path)]) == 1
    assert "lacks calvin_env/envs/play_table_env.py" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
