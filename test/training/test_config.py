"""What a run is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dfm_vla_ros.cli import main
from dfm_vla_ros.schema import ConfigError, describe, key, leaves, parse, settings
from dfm_vla_ros.training.config import TrainConfig, as_yaml, changes, load_config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("data: [demos]\nout: runs/a\nnetwork: {width: 64, heads: 4}\n")
    return path


def test_that_overrides_win_over_the_file_and_the_file_over_defaults(file: Path) -> None:
    config = load_config(file, ["steps=7", "network.layers=2", "data=[a, b]"])
    assert (config.steps, config.network.layers, config.network.width) == (7, 2, 64)
    assert config.data == ("a", "b")
    assert config.batch == 32


def test_that_numbers_may_be_written_as_people_write_them(file: Path) -> None:
    config = load_config(file, ["steps=1e4", "lr=1e-3", "clip=2", "data=one"])
    assert (config.steps, config.lr, config.clip, config.data) == (10000, 0.001, 2.0, ("one",))
    assert isinstance(config.clip, float)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stpes=3", "unknown key stpes; did you mean steps?"),
        ("network.widht=3", "unknown key network.widht; did you mean network.width?"),
        ("width=3", "unknown key width; did you mean network.width?"),
        ("network=3", "network must hold keys, got 3"),
        ("steps=many", "steps is 'many', expected a whole number"),
        ("steps=1.5", "steps is 1.5, expected a whole number"),
        ("steps=true", "steps is True, expected a whole number"),
        ("resume=1", "resume is 1, expected true or false"),
        ("lr=.nan", "lr is nan: give a finite number"),
        ("lr=nan", "lr is 'nan', expected a number"),
        ("lr=0", "lr is 0: give above 0"),
        ("held_out=0.95", "held_out is 0.95: give at most 0.9"),
        ("objective=head2", "choose one of embed, head, ar, masked, l1; did you mean head?"),
        ("data=[]", "data is empty: name at least one data set"),
        ("network.heads=7", "network.width is 64, no multiple of network.heads, 7"),
        ("keep_best=success", "set evaluation.every"),
        ("steps", "not of the form key=value"),
    ],
)
def test_that_a_wrong_key_type_or_value_is_named(file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(file, [override])
    assert message in str(error.value)


def test_that_a_missing_key_is_named_with_its_meaning(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("out: a\n")
    with pytest.raises(ConfigError, match=r"data is missing: folders of data sets"):
        load_config(tmp_path / "run.yaml")


def test_that_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_that_the_written_config_reads_back_as_the_same_run(file: Path) -> None:
    config = load_config(file, ["decoder.early_stop_within=2", "lr=3e-4"])
    file.write_text(as_yaml(config))
    assert load_config(file) == config


def test_that_every_key_is_documented_with_its_default() -> None:
    text = describe(TrainConfig)
    for name in leaves(TrainConfig):
        _, found, rest = text.partition(f"\n{name} (" if name != "data" else "data (")
        assert found, name
        assert rest.split("\n")[1].startswith("    "), f"{name} has no meaning"
    assert "batch (whole number, default 32, at least 1)" in text


def test_that_changes_name_what_makes_another_run_and_nothing_else(file: Path) -> None:
    old = load_config(file)
    same = load_config(file, ["out=b", "device=cpu", "save_every=7", "evaluation.every=9"])
    assert changes(old, same) == []
    other = load_config(file, ["steps=9", "network.layers=1"])
    assert changes(old, other) == ["steps: 8000 -> 9", "network.layers: 4 -> 1"]


@settings
class Some:
    """With a key that may be null."""

    limit: int | None = key(3, "of it", ge=1)


def test_that_an_optional_value_takes_null() -> None:
    assert parse(Some, {"limit": None}).limit is None
    with pytest.raises(ConfigError, match="limit is 0: give at least 1"):
        parse(Some, {"limit": 0})


def test_that_the_command_prints_keys_and_values(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--help-config"]) == 0
    assert "objective (embed | head | ar | masked | l1, default embed)" in capsys.readouterr().out
    assert main(["train", "--config", str(file), "--print-config", "steps=5"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["steps"] == 5
    assert main(["train", "--config", str(file), "stesp=5"]) == 1
    assert "did you mean steps?" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(Path("config/train").glob("*.yaml")), ids=lambda p: p.name)
def test_that_the_shipped_configs_are_valid(path: Path) -> None:
    assert load_config(path).data
