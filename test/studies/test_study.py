"""One file makes a table: what is alike is trained once, what is there is not run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from small import small_checkpoint

from dfm_vla_ros.cli import main
from dfm_vla_ros.evaluation.runner import SUCCESS, TIMEOUT, EpisodeResult
from dfm_vla_ros.studies.running import make_policy
from dfm_vla_ros.studies.schema import StudyError, load_study, parse_study
from dfm_vla_ros.studies.table import RowResult, compared, markdown
from dfm_vla_ros.studies.timing import Timing
from dfm_vla_ros.studies.variants import folder_name, variants

STUDIES = Path(__file__).parents[2] / "config" / "studies"


def study(**changes: Any) -> dict[str, Any]:
    return {"tasks": ["place_block"], "rows": {"a": None}, **changes}


def made(tmp_path: Path, **changes: Any) -> list:
    return variants(parse_study(study(**changes), "file"), tmp_path / "out", tmp_path / "shipped")


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    small_checkpoint().save(tmp_path / "shipped", "# test\n")
    return tmp_path / "shipped"


def outcome(seed: int, success: bool) -> EpisodeResult:
    ended = SUCCESS if success else TIMEOUT
    return EpisodeResult("t", seed, success, 0.5, 7.0 + seed, 9, 0, 0.01, ended=ended)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_that_every_study_of_the_package_is_one(path: Path, tmp_path: Path) -> None:
    found = load_study(path)
    made = variants(found, tmp_path, tmp_path / "shipped")
    assert {variant.row for variant in made} == {row.name for row in found.rows}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {}}, "rows is missing"),
        ({"rows": {"a": {"decodr": {}}}}, "did you mean rows.*decoder"),
        ({"episode": 3}, "did you mean episodes"),
        ({"episodes": 0}, "episodes is 0: give at least 1"),
    ],
)
def test_that_an_unknown_key_is_named_with_the_nearest(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        parse_study(study(**changes), "file")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"train": {"path.d": 1, "data": ["x"]}}, "row 'a', train: unknown key path.d"),
        ({"loop": {"mode": "slow"}}, "row 'a', loop: 'SLOW'"),
        ({"loop": {"speeed": 1}}, "row 'a', loop: .*speeed"),
        ({"setting": {"variation": "none"}}, "row 'a', setting: .*none"),
    ],
)
def test_that_a_change_that_makes_no_sense_names_its_row(
    row: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=message):
        made(tmp_path, rows={"a": row})


def test_that_a_decoder_that_makes_no_sense_names_its_row(shipped: Path, tmp_path: Path) -> None:
    (variant,) = made(tmp_path, rows={"a": {"decoder": {"refinement_step": 3}}})
    with pytest.raises(StudyError, match=r"row 'a', decoder: .*refinement_steps"):
        make_policy(variant)


def test_that_rows_that_train_alike_share_a_run_and_others_do_not(tmp_path: Path) -> None:
    rows = {"a": None, "b": {"decoder": {"validation_steps": 0}}, "c": {"train": {"path.c": 9}}}
    found = made(tmp_path, rows=rows, train={"data": ["x"], "steps": 3}, seeds=2)
    runs = {(variant.row, variant.seed): variant.train.out for variant in found}
    assert len(runs) == 6
    assert runs["a", 0] == runs["b", 0] and runs["a", 1] == runs["b", 1]
    assert len(set(runs.values())) == 4


def test_that_names_that_would_share_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="rename one"):
        made(tmp_path, rows={"a b": None, "a/b": None})


def test_that_changes_reach_the_policy_and_the_loop(shipped: Path, tmp_path: Path) -> None:
    row = {
        "decoder": {"refinement_steps": 3, "validation_steps": 1},
        "caching": {"mode": "off"},
        "path": {"c": 7.0},
        "loop": {"execute_steps": 2, "timeout_s": 4.0},
        "setting": {"variation": "wide"},
        "dark_cameras": ["third"],
    }
    (variant,) = made(tmp_path, rows={"a": row})
    policy = make_policy(variant)
    assert (policy.decoder.refinement_steps, policy.decoder.validation_steps) == (3, 1)
    assert json.loads(policy.decoding)["caching"]["mode"] == "off"
    assert variant.path(small_checkpoint().config.path).c == 7.0
    assert (variant.loop.execute_steps, variant.loop.timeout_s) == (2, 4.0)
    assert variant.setting.variation == "wide"
    assert variant.dark_cameras == ("third",)


def test_that_the_table_pairs_equal_networks_and_scenes(tmp_path: Path) -> None:
    first = {(0, "t", seed): outcome(seed, True) for seed in range(8)}
    other = {(0, "t", seed): outcome(seed, seed == 0) for seed in range(8)}
    elsewhere = {(1, "t", seed): outcome(seed, False) for seed in range(7)} | {(1, "t", 7): "no"}
    rows = [
        RowResult("a", first | {(1, "t", 0): outcome(0, True)}, Timing(5.0, 4.0, 9.0, 16)),
        RowResult("b", other | elsewhere),
    ]
    _, (pair, p_holm) = compared(rows)
    assert (pair.both, pair.only_a, pair.only_b) == (1, 8, 0)
    assert p_holm == pytest.approx(2 / 2**8)
    a, b = markdown(rows)[2:]
    assert a == "| a | 9/9 | 70 to 100 | 8, 1 | 10.0 s |  |  | 16 | 5.0 (4.0 to 9.0) |"
    assert b == "| b | 1/15, 1 errors | 1 to 30 | 1, 0 | 7.0 s | 8, 0 | 0.0078 |  |  |"


def test_that_studies_with_one_folder_of_runs_share_those_that_are_alike(tmp_path: Path) -> None:
    common = {"train": {"data": ["d"], "steps": 3}}
    one = parse_study(study(rows={"plain": None}, **common), "one")
    rows = {"usual": None, "c": {"train": {"path": {"c": 1}}}}
    two = parse_study(study(rows=rows, **common), "two")
    ran = {
        name: [v.train.out for v in variants(found, tmp_path / "runs", tmp_path)]
        for name, found in (("one", one), ("two", two))
    }
    assert ran["one"][0] == ran["two"][0] != ran["two"][1]


def test_that_the_command_trains_runs_and_goes_on(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = study(
        checkpoint=str(shipped),
        episodes=1,
        loop={"timeout_s": 0.3},
        rows={"plain": None, "one step": {"decoder": {"refinement_steps": 0}}},
    )
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    given = ["bench", "study", str(file), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*given, "--rounds", "1"]) == 0
    assert "plain, 0, place_block 5000000: timeout" in capsys.readouterr().out
    assert main([*given, "--rounds", "0"]) == 0
    assert "timeout" not in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [row["row"] for row in result["rows"]] == ["plain", "one step"]
    assert [row["failures"] for row in result["rows"]] == [1, 1]
    assert len((tmp_path / "out" / "table.md").read_text().splitlines()) == 4
    found = load_study(file)
    (plain, *_) = variants(found, tmp_path / "out", shipped)
    assert (tmp_path / "out" / "episodes" / folder_name(plain)).is_dir()
