import json
from pathlib import Path

import pytest

from dfm_vla_ros.benchmarks import EpisodeOutcome
from dfm_vla_ros.benchmarks.calvin.evaluation import metrics, table
from dfm_vla_ros.benchmarks.calvin.tasks import Chain, initial_states
from dfm_vla_ros.cli import main

TASKS = ("open_drawer", "turn_on_led", "close_drawer", "turn_off_led", "move_slider_left")
CHAINS = [Chain(initial_states()[0], TASKS)] * 6


def _ended(*lengths: int) -> list[EpisodeOutcome]:
    return [
        EpisodeOutcome("CALVIN", "chain", number, length == 5, 1, 1.0, "", {"in_a_row": length})
        for number, length in enumerate(lengths)
    ]


def test_that_the_figures_are_those_of_the_definition() -> None:
    found = metrics(_ended(5, 3, 0, 1), CHAINS)
    assert [share["rate"] for share in found["in_a_row"]] == [0.75, 0.5, 0.5, 0.25, 0.25]
    assert found["average_length"]["mean"] == pytest.approx(9 / 4)
    assert sum(share["rate"] for share in found["in_a_row"]) == pytest.approx(9 / 4)
    assert found["tasks"]["open_drawer"]["done"] == 3
    assert found["tasks"]["open_drawer"]["tried"] == 4
    assert found["tasks"]["turn_on_led"]["tried"] == 3
    assert found["tasks"]["move_slider_left"] == {
        "done": 1,
        "tried": 1,
        "rate": 1.0,
        "interval": pytest.approx((0.2065, 1.0), abs=1e-3),
    }


def test_that_an_interval_holds_the_mean_and_stays_within_what_is_possible() -> None:
    for lengths in ((5, 5, 5, 4), (0, 0, 0, 1), (2,), (5, 0, 3)):
        mean = metrics(_ended(*lengths), CHAINS)["average_length"]
        low, high = mean["interval"]
        assert 0 <= low <= mean["mean"] <= high <= 5


def test_that_what_broke_is_counted_nowhere() -> None:
    broken = EpisodeOutcome("CALVIN", "chain", 5, False, 0, 1.0, "the simulator died")
    assert metrics([*_ended(5, 3), broken], CHAINS) == metrics(_ended(5, 3), CHAINS)
    assert table(metrics([broken], CHAINS)) == "no chain ran to its end"


def test_that_the_table_reads_as_in_papers() -> None:
    line = table(metrics(_ended(5, 3, 0, 1), CHAINS)).splitlines()[-1]
    assert line.startswith("| 4 | 75.0 | 50.0 | 50.0 | 25.0 | 25.0 | 2.25 (")


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
