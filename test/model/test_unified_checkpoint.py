"""The unified checkpoint folder: whole or refused, one piece, sharded, in three precisions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import random_observation, small_checkpoint
from tiny_univla import unified_checkpoint

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.model.checkpoint import Checkpoint
from dfm_vla_ros.model.folder import CheckpointError, folder_hash
from dfm_vla_ros.model.loading import load_checkpoint
from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint
from dfm_vla_ros.model.vision import ObservationError

TOKENS = torch.arange(70)[None] % 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    unified_checkpoint().save(tmp_path / "checkpoint", "# test\n", shard=100_000)
    return tmp_path / "checkpoint"


def logits_of(checkpoint: UnifiedCheckpoint) -> torch.Tensor:
    seen = random_observation()
    ids = checkpoint.encode_prefix(seen.instruction, seen.images, seen.positions, seen.commanded)
    return checkpoint.refiner.denoise(TOKENS, checkpoint.refiner.prefill(ids))


@pytest.mark.parametrize(
    "switches", [{}, {"action_head": "separate"}, {"tied_embeddings": True}, {"shift": False}]
)
def test_that_what_is_saved_is_loaded_and_predicts_the_same(
    tmp_path: Path, switches: dict
) -> None:
    saved = unified_checkpoint(**switches)
    saved.save(tmp_path / "folder", "# test\n", shard=100_000)
    assert len(list((tmp_path / "folder").glob("model-*.safetensors"))) > 1
    loaded = load_checkpoint(tmp_path / "folder")
    assert loaded.config == saved.config
    assert torch.equal(logits_of(loaded), logits_of(saved))


def test_that_an_inference_load_drops_the_head_and_a_whole_one_can_be_saved(
    folder: Path, tmp_path: Path
) -> None:
    loaded = load_checkpoint(folder)
    with pytest.raises(CheckpointError, match="load the checkpoint with whole=True"):
        loaded.save(tmp_path / "again", "")
    assert not (tmp_path / "again").exists()
    whole = UnifiedCheckpoint.load(folder, whole=True)
    whole.save(tmp_path / "again", "# test\n", shard=100_000)
    assert folder_hash(tmp_path / "again") == folder_hash(folder)


def test_that_weights_are_mapped_into_memory(folder: Path) -> None:
    loaded = load_checkpoint(folder)
    address = loaded.refiner.layers.norm.weight.data_ptr()
    lines = Path("/proc/self/maps").read_text().splitlines()
    ranges = (line.split()[0].split("-") for line in lines if str(folder) in line)
    assert any(int(low, 16) <= address < int(high, 16) for low, high in ranges)


@pytest.mark.parametrize(("precision", "correlation"), [("bfloat16", 0.999), ("int8", 0.99)])
def test_that_lower_precisions_predict_nearly_the_same(
    folder: Path, precision: str, correlation: float
) -> None:
    exact, rough = (logits_of(load_checkpoint(folder, precision=p)) for p in (None, precision))
    assert torch.corrcoef(torch.stack([exact.flatten(), rough.flatten()]))[0, 1] > correlation
    assert rough.dtype == torch.float32


def test_that_the_prefix_is_the_layouts_sequence(folder: Path) -> None:
    checkpoint = load_checkpoint(folder)
    seen = random_observation()
    parts = (seen.instruction, seen.images, seen.positions, seen.commanded)
    ids = checkpoint.encode_prefix(*parts)[0].tolist()
    layout = checkpoint.layout
    assert len(ids) == layout.prefix_length(6) == 1 + 6 + 3 * (16 + 4) + 28 + 1
    assert ids[0], ids[-1] == (layout.special["bos"], layout.special["boa"])
    joints = [i for i in ids if i in layout.proprioception]
    state = np.concatenate([seen.positions, seen.commanded])
    assert (
        joints
        == (
            layout.proprioception.first
            + checkpoint.proprioception.encode(state.reshape(2, -1)).reshape(-1)
        ).tolist()
    )
    begin = ids.index(layout.special["img"]) + 1
    codes = checkpoint.image_tokenizer.encode(torch.from_numpy(seen.images["third"])[None])[0]
    assert ids[begin : begin + 16] == (codes + layout.visual.first).tolist()


def test_that_a_missing_camera_and_joints_of_another_shape_are_named(folder: Path) -> None:
    checkpoint, seen = load_checkpoint(folder), random_observation()
    images = {k: v for k, v in seen.images.items() if k != "left_wrist"}
    with pytest.raises(ObservationError, match="no image of camera left_wrist"):
        checkpoint.encode_prefix(seen.instruction, images, seen.positions, seen.commanded)
    with pytest.raises(ObservationError, match=r"commanded have shape \(3,\), expected \(14,\)"):
        checkpoint.encode_prefix(seen.instruction, seen.images, seen.positions, np.zeros(3))


def shard_of(folder: Path, key: str) -> Path:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    return folder / index["weight_map"][key]


KEY = "model.layers.1.mlp.up_proj.weight"


def test_that_missing_superfluous_and_misshapen_weights_are_named(folder: Path) -> None:
    path = shard_of(folder, KEY)
    tensors = load_file(path)
    for change, message in (
        ({KEY: None}, f"weight {KEY} is not in .*, where .*index.json has it"),
        ({"model.extra": torch.zeros(1)}, "weight model.extra is not expected in"),
        ({KEY: torch.zeros(3)}, rf"weight {KEY} has shape \(3,\) in .*makes it \(48, 32\)"),
    ):
        save_file({k: v for k, v in {**tensors, **change}.items() if v is not None}, path)
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(folder)


def test_that_a_weight_that_neither_file_nor_index_has_is_named(folder: Path) -> None:
    path = shard_of(folder, KEY)
    save_file({k: v for k, v in load_file(path).items() if k != KEY}, path)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    del content["weight_map"][KEY]
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"weight {KEY} is missing from"):
        load_checkpoint(folder)


def test_that_truncated_and_missing_shards_are_named(folder: Path) -> None:
    path = shard_of(folder, KEY)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=rf"{path.name}: .*copy the checkpoint again"):
        load_checkpoint(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=path.name):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["action", "proprioception", "text"])
def test_that_a_tokenizer_with_another_hash_is_named(folder: Path, name: str) -> None:
    path = folder / "tokenizer" / f"{name}.json"
    content = json.loads(path.read_text())
    if name == "action":
        content["widths"][0][0] *= 2
    elif name == "proprioception":
        content["lower"][0] -= 1
    else:
        content["words"][0] += "s"
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"the {name} tokenizer in .* has hash .*names"):
        load_checkpoint(folder)


def test_that_the_small_checkpoint_names_a_tokenizer_with_another_hash_too(tmp_path: Path) -> None:
    small_checkpoint().save(tmp_path / "small", "# test\n")
    path = tmp_path / "small" / "tokenizer" / "action.json"
    path.write_text(path.read_text().replace("0.002", "0.003", 1))
    with pytest.raises(CheckpointError, match="the action tokenizer in"):
        load_checkpoint(tmp_path / "small")


def test_that_a_layout_of_another_size_is_refused(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    content["refiner"]["vocabulary_size"] += 1
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"vocabulary is \d+, the layout expects"):
        load_checkpoint(folder)


def test_that_pickled_weights_are_refused_with_the_remedy(folder: Path) -> None:
    for path in folder.glob("model*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"pytorch_model\.bin, which may run code .*save_file"
    ):
        load_checkpoint(folder)


def test_that_an_index_cannot_lead_out_of_the_folder(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {KEY: "../other.safetensors"}}))
    with pytest.raises(CheckpointError, match="only safetensors beside it are read"):
        load_checkpoint(folder)


@pytest.mark.parametrize("kind", ["huge", None])
def test_that_other_kinds_are_refused(folder: Path, kind: str | None) -> None:
    content = json.loads((folder / "config.json").read_text()) | {"kind": kind}
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(DfmVlaError, match=f"kind {kind!r}; known are small and unified"):
        load_checkpoint(folder)


def test_that_each_class_names_the_kind_it_does_not_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="of kind 'unified', expected 'small'"):
        Checkpoint.load(folder)
    small_checkpoint().save(tmp_path / "small", "# test\n")
    with pytest.raises(CheckpointError, match="of kind 'small', expected 'unified'"):
        UnifiedCheckpoint.load(tmp_path / "small")
