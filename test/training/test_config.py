"""What a run is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfm_vla_ros.training.config import ConfigError, load_config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("data: [demos]\nout: runs/a\nnetwork: {width: 64}\n")
    return path


def test_that_overrides_win_over_the_file_and_the_file_over_defaults(file: Path) -> None:
    config = load_config(file, ["steps=7", "network.layers=2", "data=[a, b]"])
    assert (config.steps, config.network.layers, config.network.width) == (7, 2, 64)
    assert config.data == ("a", "b")
    assert config.batch == 32


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stpes=3", "unknown key stpes; did you mean steps?"),
        ("network.widht=3", r"unknown key network\.widht; did you mean network\.width?"),
        ("network=3", "network must hold keys, got 3"),
        ("steps=many", "steps"),
        ("steps", "not of the form key=value"),
    ],
)
def test_that_a_wrong_key_or_type_is_named(file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(file, [override])


def test_that_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")
