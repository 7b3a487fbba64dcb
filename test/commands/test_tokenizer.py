"""``dfm-vla tokenizer``: inspect, fit and table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.cli import main
from dfm_vla_ros.data.format import DatasetSpec, Episode
from dfm_vla_ros.data.writer import DatasetWriter
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.tokens import load_action_tokenizer
from dfm_vla_ros.tokens.action import ActionTokenizer
from dfm_vla_ros.tokens.bins import ProprioceptionTokenizer
from dfm_vla_ros.tokens.ids import ImageSlot
from dfm_vla_ros.tokens.presets import small_layout
from dfm_vla_ros.tokens.text import TextTokenizer

TASKS = ("pot_lift", "place_veg")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six smooth episodes without images of each of two tasks, a data set for each task."""
    folder, rng = tmp_path_factory.mktemp("demonstrations"), np.random.default_rng(0)
    for task in TASKS:
        writer = DatasetWriter(folder / task, DatasetSpec({}, 0.1))
        for seed in range(6):
            time = np.linspace(0, 3, 40)[:, None]
            targets = rng.uniform(0.2, 0.5, 14) * np.sin(time + rng.uniform(0, 6, 14))
            targets[:, [6, 13]] = np.where(time > rng.uniform(1, 2, 2), 0.035, 0.0)
            commanded = targets + rng.normal(0, 0.01, targets.shape)
            episode = Episode({}, commanded, commanded, targets, task, seed, "do it", True, 0.1)
            writer.add(episode, f"{task}_{seed}")
        writer.close()
    return folder


def test_that_the_shipped_checkpoint_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenizer", "inspect"]) == 0
    text = capsys.readouterr().out
    assert "action          uniform, 256 tokens" in text
    config = json.loads(resource_path("checkpoints/default/config.json").read_text())
    assert config["hashes"]["action"] in text
    assert "layout          none" in text


def test_that_the_published_layout_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenizer", "inspect", "--preset", "univla"]) == 0
    text = capsys.readouterr().out
    for part in ("151854..184621", "151642..150619", "636   image:third", "184622 ids"):
        assert part in text


def test_that_a_layout_that_does_not_fit_its_tokenizers_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joints = len(JOINT_NAMES)
    widths, middle = np.full((8, joints), 0.002), np.full(joints, np.nan)
    ActionTokenizer(JOINT_NAMES, widths, middle, 64, 0.1).save(tmp_path)
    TextTokenizer.fit(["do it"]).save(tmp_path)
    ProprioceptionTokenizer(JOINT_NAMES, -np.ones(joints), np.ones(joints)).save(tmp_path)
    for actions, status in ((64, 0), (65, 1)):
        small_layout(4, 16, actions, [ImageSlot("third", 2, 2)]).save(tmp_path)
        assert main(["tokenizer", "inspect", "--checkpoint", str(tmp_path)]) == status
    assert "has 64 tokens, the layout 65 ids" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "kind", "count"),
    [
        (["--kind", "uniform", "--vocabulary", "512"], "uniform", 112),
        (["--kind", "maat", "--horizon", "5"], "maat", 70),
        (["--kind", "dct", "--coefficients", "3"], "dct", 42),
        (["--kind", "fast", "--scale", "20"], "fast", None),
    ],
)
def test_that_every_kind_is_fitted_and_written(
    options: list[str], kind: str, count: int | None, data: Path, tmp_path: Path
) -> None:
    command = ["tokenizer", "fit", "--data", str(data), "--out", str(tmp_path), *options]
    assert main(command) == 0
    codec = load_action_tokenizer(tmp_path)
    assert (codec.kind, codec.joint_names) == (kind, JOINT_NAMES)
    assert count in (None, codec.token_count)
    assert main(command) == 1  # nothing is overwritten


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "uniform", "--scale", "9"], "--scale has no meaning for uniform"),
        (["--kind", "fast", "--coefficients", "3"], "--coefficients has no meaning for fast"),
        (["--kind", "dct", "--coefficients", "9"], "9 coefficients; a chunk has 1 to 8"),
        (["--kind", "maat", "--quantile", "2"], "--quantile is 2.0"),
        (["--kind", "maat", "--horizon", "0"], "--horizon must be at least 1"),
    ],
)
def test_that_options_that_make_no_sense_are_refused(
    options: list[str],
    message: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["tokenizer", "fit", "--data", str(data), "--out", str(tmp_path), *options]
    assert main(command) == 1
    assert message in capsys.readouterr().err


def test_that_the_table_has_every_kind_on_every_task(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "table.json"
    assert main(["tokenizer", "table", "--data", str(data), "--tasks", "--json", str(file)]) == 0
    text, rows = capsys.readouterr().out, json.loads(file.read_text())["rows"]
    for label in ("uniform, 256", "maat, q01..q99", "dct, 4 of 8", "fast, scale 10"):
        assert [row["task"] for row in rows if row["label"] == label] == ["all", *sorted(TASKS)]
        assert label in text
    best = next(row for row in rows if row["label"] == "uniform, 2001")["measurement"]
    assert best["chunks"] == 80
    assert best["arms_rad"]["median"] < 1e-4
    assert best["replaced_arms_rad"]["median"] > best["arms_rad"]["largest"] / 10


def test_that_the_table_needs_enough_episodes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tokenizer", "table", "--data", str(data), "--episodes", "4"]) == 1
    assert "give at least 5" in capsys.readouterr().err
    assert main(["tokenizer", "table", "--data", str(tmp_path)]) == 1
    assert "no data set in" in capsys.readouterr().err


@pytest.mark.slow
def test_that_the_table_makes_demonstrations_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenizer", "table", "--episodes", "5"]) == 0
    text = capsys.readouterr().out
    assert "15/15 demonstrations" in text
    assert "fast, scale 50" in text
