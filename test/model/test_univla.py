"""A tiny Emu3 saved as UniVLA saves its own becomes a checkpoint, by command and unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import random_observation
from tiny_univla import action_tokenizer, save_univla, save_vision

from dfm_vla_ros.cli import main
from dfm_vla_ros.model.folder import CheckpointError
from dfm_vla_ros.model.loading import load_checkpoint
from dfm_vla_ros.model.unified import UnifiedConfig
from dfm_vla_ros.model.univla import backbone_config
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.tokens.fast import FastTokenizer

KEY = "model.layers.1.self_attn.k_proj.weight"


@pytest.fixture(scope="module")
def univla(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("univla")
    save_univla(folder / "model")
    save_vision(folder / "vision", "baai")
    action_tokenizer().save(folder / "actions")
    return folder


def command(univla: Path, out: Path, *more: str) -> list[str]:
    return [
        *("checkpoint", "import-univla", str(univla / "model"), "--out", str(out)),
        *("--vision", str(univla / "vision"), "--tokenizer", str(univla / "actions")),
        *("--task", "place_block=place the block on the plate", *more),
    ]


@pytest.fixture(scope="module")
def imported(univla: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "checkpoint"
    assert main(command(univla, out)) == 0
    return out


def test_that_the_imported_folder_is_sound_and_its_weights_are_the_same_files(
    univla: Path, imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["checkpoint", "verify", str(imported)]) == 0
    assert "sound, sha256" in capsys.readouterr().out
    shards = sorted(path.name for path in (univla / "model").glob("model-*"))
    assert len(shards) > 1
    for name in shards:
        assert (imported / name).samefile(univla / "model" / name)


def test_that_show_prints_univlas_sizes(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["checkpoint", "show", str(imported)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["kind"] == "unified"
    assert shown["refiner"]["vocabulary_size"] == 184622
    assert shown["refiner"]["shift"] is True
    assert shown["image_sizes"] == {
        "third": [200, 200],
        "left_wrist": [80, 80],
        "right_wrist": [80, 80],
    }
    assert shown["tokens"]["count"] == 70
    assert set(shown["hashes"]) == {"action", "proprioception", "text", "layout"}


def test_that_its_prefix_has_the_published_ids_and_framing(imported: Path) -> None:
    checkpoint, seen = load_checkpoint(imported), random_observation(size=200)
    ids = checkpoint.encode_prefix(seen.instruction, seen.images, seen.positions, seen.commanded)[
        0
    ].tolist()
    begin = ids.index(151852)  # boi
    # "1*25*25", img, 625 codes, eof, eoi
    assert ids[begin : begin + 9] == [151852, 16, 9, 17, 20, 9, 17, 20, 151851]
    codes = ids[begin + 9 : begin + 9 + 625]
    assert 151854 <= min(codes) <= max(codes) <= 184621
    assert ids[begin + 9 + 625 :][:3] == [151847, 151853, 151852]
    assert ids[0] == 151849  # bos
    assert ids[-1] == 151844  # boa
    image = torch.from_numpy(seen.images["third"])[None]
    assert [i - 151854 for i in codes] == checkpoint.image_tokenizer.encode(image)[0].tolist()


def test_that_it_still_predicts_the_next_token_as_the_model_did(
    univla: Path, imported: Path
) -> None:
    checkpoint = load_checkpoint(imported)
    tensors = {}
    for path in (univla / "model").glob("model-*"):
        tensors |= load_file(path)
    from transformers import Emu3ForCausalLM, Emu3TextConfig

    content = json.loads((univla / "model" / "config.json").read_text())
    config = Emu3TextConfig(
        **{
            k: v
            for k, v in content.items()
            if k.startswith(("hidden_size", "inter", "num", "max"))
        },
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )
    model = Emu3ForCausalLM(config).eval()
    model.load_state_dict(tensors)
    ids = torch.randint(0, 151643, (1, 40))
    ids[0, -1] = 151844
    with torch.no_grad():
        expected = model(input_ids=ids).logits[0, -1, 151642 - torch.arange(64)]
    cache = checkpoint.refiner.prefill(ids)
    logits = checkpoint.refiner.next_logits(torch.zeros(1, 70).long(), 0, 1, cache)
    torch.testing.assert_close(logits[0, 0], expected, atol=1e-4, rtol=1e-4)


def broken(univla: Path, tmp_path: Path) -> Path:
    """Return a copy whose files can be changed."""
    import shutil

    shutil.copytree(univla / "model", tmp_path / "copy" / "model")
    for name in ("vision", "actions"):
        (tmp_path / "copy" / name).symlink_to(univla / name)
    return tmp_path / "copy"


def shard(folder: Path, key: str) -> Path:
    index = json.loads((folder / "model" / "model.safetensors.index.json").read_text())
    return folder / "model" / index["weight_map"][key]


@pytest.mark.parametrize("fault", ["missing", "misshapen", "truncated", "pickled", "experts"])
def test_that_a_faulty_source_is_named_and_leaves_no_folder(
    univla: Path, tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = broken(univla, tmp_path)
    path, config = shard(folder, KEY), folder / "model" / "config.json"
    if fault in ("missing", "misshapen"):
        tensors = load_file(path)
        del tensors[KEY]
        save_file(tensors | ({KEY: torch.zeros(2, 2)} if fault == "misshapen" else {}), path)
    elif fault == "truncated":
        path.write_bytes(path.read_bytes()[:-4])
    elif fault == "pickled":
        for found in (folder / "model").glob("model*"):
            found.unlink()
        (folder / "model" / "pytorch_model.bin").write_bytes(b"")
    else:
        config.write_text(config.read_text().replace('experts": false', 'experts": true'))
    assert main(command(folder, tmp_path / "out")) == 1
    message = {
        "missing": f"weight {KEY} is not in",
        "misshapen": f"weight {KEY} has shape (2, 2)",
        "truncated": f"{path.name}: ",
        "pickled": "pytorch_model.bin, which may run code",
        "experts": "action_experts = True, which is not read",
    }[fault]
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_that_a_weight_that_is_not_finite_is_found_by_verify(
    univla: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = broken(univla, tmp_path)
    path = shard(folder, KEY)
    tensors = load_file(path)
    tensors[KEY][1, 1] = torch.nan
    save_file(tensors, path)
    assert main(command(folder, tmp_path / "out", "--copy")) == 0
    assert main(["checkpoint", "verify", str(tmp_path / "out")]) == 1
    assert f"weight {KEY} in" in capsys.readouterr().err


def test_that_the_shipped_checkpoint_is_shown_and_sound(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["checkpoint", "show"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "small"
    assert main(["checkpoint", "verify"]) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--task", "place_veg"], "'place_veg' is not NAME=SENTENCE"),
        (["--camera", "third=201"], "'third=201' is not CAMERA=PIXELS with a multiple of 8"),
    ],
)
def test_that_malformed_arguments_are_named(
    univla: Path,
    tmp_path: Path,
    more: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(univla, tmp_path / "out", *more)) == 1
    assert message in capsys.readouterr().err


def test_that_univlas_published_configuration_is_the_default() -> None:
    published = {
        "model_type": "Emu3",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 9216,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "vocab_size": 184622,
    }
    assert backbone_config(published) == UnifiedConfig()
    with pytest.raises(CheckpointError, match=r"config\.json is of a 'llama'"):
        backbone_config(published | {"model_type": "llama"})


def test_that_fast_tokens_take_univlas_ids_and_end_with_eoa(univla: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    reference = rng.uniform(-0.1, 0.1, (60, 14))
    targets = reference[:, None] + rng.normal(0, 0.02, (60, 5, 14)).cumsum(1)
    fast = FastTokenizer.fit(targets, reference, JOINT_NAMES, [], 0.1, vocabulary_size=300)
    fast.save(tmp_path / "fast")
    arguments = command(univla, tmp_path / "out")
    arguments[arguments.index("--tokenizer") + 1] = str(tmp_path / "fast")
    assert main(arguments) == 0
    policy = Policy.load(tmp_path / "out")
    refiner = load_checkpoint(tmp_path / "out").refiner
    assert refiner.ids[:2].tolist() == [151642, 151641]
    assert refiner.ids[fast.vocabulary_size - 1] == 151845  # eoa: the last token is the end
    chunk = policy.act(random_observation())
    assert chunk.tokens.shape == fast.token_shape
    assert np.isfinite(policy.tokenizer.decode(chunk.tokens, chunk.reference)).all()


def test_that_the_layout_of_an_imported_checkpoint_is_printed(
    imported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tokenizer", "inspect", "--checkpoint", str(imported)]) == 0
    shown = capsys.readouterr().out
    assert "151844" in shown
    assert "151854" in shown
