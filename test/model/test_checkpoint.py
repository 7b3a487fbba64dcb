"""The checkpoint folder: whole or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small import small_checkpoint

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.model.checkpoint import CONFIG, WEIGHTS, Checkpoint, CheckpointError, folder_hash


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_checkpoint().save(tmp_path / "checkpoint", "# test\n")
    return tmp_path / "checkpoint"


def test_that_what_is_saved_is_loaded(folder: Path) -> None:
    saved, loaded = small_checkpoint(), Checkpoint.load(folder)
    assert loaded.config == saved.config
    assert loaded.action.hash == saved.action.hash
    for key, value in saved.refiner.state_dict().items():
        assert torch.equal(loaded.refiner.state_dict()[key], value), key


def test_that_saving_again_replaces_the_folder_and_leaves_no_partial_one(folder: Path) -> None:
    before = folder_hash(folder)
    small_checkpoint(seed=1).save(folder, "# other\n")
    assert folder_hash(folder) != before
    assert [p.name for p in folder.parent.iterdir()] == ["checkpoint"]


def test_that_the_hash_sees_weights_config_and_tokenizers_but_not_the_readme(folder: Path) -> None:
    before = folder_hash(folder)
    (folder / "README.md").write_text("changed")
    assert folder_hash(folder) == before
    for name in (WEIGHTS, CONFIG, "tokenizer/action.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        assert folder_hash(folder) != before, name
        (folder / name).write_bytes(content)


def test_that_a_missing_a_superfluous_and_a_misshapen_weight_are_named(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    for change, message in (
        ({"refiner.head.bias": None}, "refiner.head.bias is missing from"),
        ({"refiner.extra": torch.zeros(1)}, "refiner.extra is not expected in"),
        ({"refiner.head.bias": torch.zeros(3)}, r"refiner.head.bias has shape \(3,\)"),
    ):
        save_file(
            {k: v for k, v in {**tensors, **change}.items() if v is not None}, folder / WEIGHTS
        )
        with pytest.raises(CheckpointError, match=message):
            Checkpoint.load(folder)


def test_that_a_truncated_weight_file_is_named(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*copy the checkpoint again"):
        Checkpoint.load(folder)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, "tokenizer/action.json", "tokenizer/text.json"])
def test_that_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DfmVlaError, match=Path(name).name.replace(".", r"\.")):
        Checkpoint.load(folder)


def test_that_an_unknown_key_in_the_configuration_is_named(folder: Path) -> None:
    content = json.loads((folder / CONFIG).read_text())
    content["refiner"]["widht"] = 3
    (folder / CONFIG).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="widht"):
        Checkpoint.load(folder)


def test_that_a_tokenizer_of_another_checkpoint_is_refused(folder: Path) -> None:
    content = json.loads((folder / "tokenizer/action.json").read_text())
    content["vocabulary_size"] = 65
    (folder / "tokenizer/action.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="action vocabulary is 65, the network expects 64"):
        Checkpoint.load(folder)
