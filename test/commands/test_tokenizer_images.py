"""``dfm-vla tokenizer images`` and ``fit-images``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small import small_checkpoint

from dfm_vla_ros.cli import main
from dfm_vla_ros.data.format import DatasetSpec, Episode
from dfm_vla_ros.data.writer import DatasetWriter
from dfm_vla_ros.model.checkpoint import Checkpoint
from dfm_vla_ros.model.folder import CheckpointError
from dfm_vla_ros.model.loading import load_image_tokenizer, save_image_tokenizer
from dfm_vla_ros.model.vision import FsqConfig, FsqTokenizer
from dfm_vla_ros.robot.joints import CAMERAS
from dfm_vla_ros.training.config import NetworkConfig, TrainConfig, VisionConfig
from dfm_vla_ros.training.preparing import prepare
from dfm_vla_ros.training.vision import measure_images, perplexity, psnr_db

TASKS = ("pot_lift", "place_veg")
FRAMES = 6


def scene(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a bright square that wanders over a dim table, (T, S, S, 3) uint8."""
    images = np.full((FRAMES, size, size, 3), 60, dtype=np.uint8)
    for image, (row, column) in zip(images, rng.integers(0, size - 8, (FRAMES, 2)), strict=True):
        image[row : row + 8, column : column + 8] = (220, 120, 40)
    return images


def write(folder: Path, count: int, size: int = 32, cameras: tuple[str, ...] = CAMERAS) -> Path:
    rng = np.random.default_rng(0)
    joints = np.zeros((FRAMES, 14))
    for task in TASKS:
        spec = DatasetSpec(dict.fromkeys(cameras, (size, size)), 0.1)
        writer = DatasetWriter(folder / task, spec, "image")
        for seed in range(count):
            images = {camera: scene(rng, size) for camera in cameras}
            episode = Episode(images, joints, joints, joints, task, seed, "do it", True, 0.1)
            writer.add(episode, f"{task}_{seed}")
        writer.close()
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("demonstrations") / "data", 5)


def fit(data: Path, out: Path, *options: str) -> int:
    return main(["tokenizer", "fit-images", "--data", str(data), "--out", str(out), *options])


def test_that_codes_alone_bring_back_what_training_saw() -> None:
    torch.manual_seed(0)
    tokenizer = FsqTokenizer(FsqConfig(image_size=32, levels=(8, 5, 3), hidden=8)).eval()
    images = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8)
    expected = tokenizer(images.permute(0, 3, 1, 2) / 255).clamp(0, 1).permute(0, 2, 3, 1)
    assert torch.allclose(tokenizer.decode(tokenizer.encode(images)), expected, atol=1e-5)


def test_that_perplexity_counts_evenly_used_codes_and_psnr_is_in_decibels() -> None:
    assert perplexity(torch.tensor([7, 7, 0, 7])) == pytest.approx(3)
    assert perplexity(torch.tensor([9, 0])) == pytest.approx(1)
    assert psnr_db(0.01) == pytest.approx(20)
    assert psnr_db(0.0) == pytest.approx(100)


def test_that_a_row_agrees_with_numpy() -> None:
    tokenizer = small_checkpoint().image_tokenizer
    rng = np.random.default_rng(1)
    views = np.stack([np.concatenate([scene(rng, 32) for _ in range(20)]) for _ in range(2)])
    first, second, both = measure_images(tokenizer, torch.from_numpy(views), ("third", "wrist"))
    codes = tokenizer.encode(torch.from_numpy(views[0]))
    error = (tokenizer.decode(codes).numpy() - views[0] / 255.0) ** 2
    changing = (np.abs(views[0].astype(int) - np.median(views[0], axis=0)) > 25).any(-1)
    assert first.psnr_db == pytest.approx(-10 * np.log10(error.mean()), abs=1e-3)
    worst = error.mean(axis=(1, 2, 3)).max()
    assert first.worst_psnr_db == pytest.approx(-10 * np.log10(worst), abs=1e-3)
    assert first.changing_psnr_db == pytest.approx(
        -10 * np.log10(error[changing].mean()), abs=1e-3
    )
    assert first.changing == pytest.approx(changing.mean())
    assert first.used == len(np.unique(codes)) / 4096
    assert (first.tokens, first.images, both.images) == (16, 120, 240)
    assert min(first.psnr_db, second.psnr_db) <= both.psnr_db <= max(first.psnr_db, second.psnr_db)
    assert both.used >= max(first.used, second.used)


def test_that_a_fitted_tokenizer_is_measured_saved_and_taken_by_a_training_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "eyes", tmp_path / "rows.json"
    assert fit(data, out, "--steps", "20", "--json", str(file)) == 0
    printed = capsys.readouterr()
    assert "measured on episodes: 1 of place_veg, 1 of pot_lift" in printed.out
    assert "trained on 8 episodes" in printed.out
    assert "image tokenizer: 100%" in printed.err
    rows = json.loads(file.read_text())["rows"]
    assert [row["camera"] for row in rows] == [*CAMERAS, "all"]
    assert rows[-1]["psnr_db"] > 12

    assert main(["tokenizer", "images", "--checkpoint", str(out), "--data", str(data)]) == 0
    assert "5 of place_veg, 5 of pot_lift" in capsys.readouterr().out
    run = TrainConfig(
        data=(str(data / "pot_lift"),),
        out=str(tmp_path / "run"),
        vision=VisionConfig(checkpoint=str(out)),
        network=NetworkConfig(width=32, layers=1, heads=2),
    )
    taken = prepare(run, tmp_path / "eyes_of_the_run")[0].image_tokenizer
    saved = load_image_tokenizer(out)[0]
    assert taken.config.image_size == 32
    for key, value in saved.state_dict().items():
        assert torch.equal(taken.state_dict()[key], value)


def test_that_the_same_seed_fits_the_same_tokenizer(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert fit(data, tmp_path / name, "--steps", "2", "--seed", seed) == 0
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_that_training_lowers_the_error(data: Path, tmp_path: Path) -> None:
    found = []
    for steps in ("1", "120"):  # 60 gain 2.97 dB on one kind of processor
        file = tmp_path / f"{steps}.json"
        assert fit(data, tmp_path / steps, "--steps", steps, "--json", str(file)) == 0
        found.append(json.loads(file.read_text())["rows"][-1])
    assert found[1]["psnr_db"] > found[0]["psnr_db"] + 3


def test_that_a_checkpoint_and_its_tokenizer_alone_measure_alike(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = small_checkpoint()
    checkpoint.save(tmp_path / "whole", "")
    save_image_tokenizer(tmp_path / "alone", checkpoint.image_tokenizer, CAMERAS, "")
    printed = []
    for name in ("whole", "alone"):
        command = ["tokenizer", "images", "--checkpoint", str(tmp_path / name)]
        assert main([*command, "--data", str(data), "--episodes", "2"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "2 of place_veg, 2 of pot_lift" in printed[0]
    with pytest.raises(CheckpointError, match="of kind 'images'"):
        Checkpoint.load(tmp_path / "alone")


def test_that_missing_and_unfit_folders_say_what_to_do(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few, blind = write(tmp_path / "few", 2), write(tmp_path / "blind", 5, cameras=("third",))
    odd = write(tmp_path / "odd", 5, size=36)
    (tmp_path / "empty").mkdir()
    images = ["tokenizer", "images"]
    for command, message in (
        ([*images, "--data", str(tmp_path / "none")], "no data set in"),
        ([*images, "--data", str(tmp_path / "empty")], "no data set in"),
        ([*images, "--data", str(data)], "expected torch.uint8 (B, 96, 96, 3)"),
        ([*images, "--checkpoint", str(tmp_path / "none")], "config.json is missing"),
        ([*images, "--episodes", "-1"], "--episodes is -1"),
        ([*images, "--per-episode", "0"], "--per-episode is 0, give at least 1"),
    ):
        assert main(command) == 1
        assert message in capsys.readouterr().err
    for folder, message in (
        (few, "place_veg has 2 episodes: give at least 5"),
        (blind, "has no camera left_wrist"),
        (odd, "36 px, expected a multiple of the patch, 8 px"),
    ):
        assert fit(folder, tmp_path / "out") == 1
        assert message in capsys.readouterr().err
    assert fit(data, tmp_path / "empty") == 1
    assert "exists: give another folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_that_a_folder_of_another_kind_or_with_damaged_weights_is_refused(tmp_path: Path) -> None:
    tokenizer = small_checkpoint().image_tokenizer
    save_image_tokenizer(tmp_path / "alone", tokenizer, CAMERAS, "")
    config = tmp_path / "alone" / "config.json"
    content = config.read_text()
    config.write_text(content.replace('"hidden": 8', '"hidden": 16'))
    with pytest.raises(CheckpointError, match="has shape"):
        load_image_tokenizer(tmp_path / "alone")
    config.write_text(content.replace('"kind": "images"', '"kind": "unified"'))
    with pytest.raises(CheckpointError, match="no FSQ image tokenizer"):
        load_image_tokenizer(tmp_path / "alone")
    shutil.rmtree(tmp_path / "alone")
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        load_image_tokenizer(tmp_path / "alone")


@pytest.mark.slow
def test_that_images_makes_demonstrations_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenizer", "images", "--episodes", "2"]) == 0
    text = capsys.readouterr().out
    assert "6/6 demonstrations" in text
    assert "144" in text
