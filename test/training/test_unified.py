"""Fine-tuning of unified checkpoints: tiny networks of the real classes, through the real loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from demonstrations import episode, rows, small_run, write
from small import random_observation
from tiny_univla import unified_checkpoint

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.model.folder import DecoderConfig, PathConfig
from dfm_vla_ros.model.unified import UnifiedRefiner
from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.tokens.fast import FastTokenizer
from dfm_vla_ros.tokens.presets import small_layout
from dfm_vla_ros.training.config import ConfigError, LoraConfig, TrainConfig, UnifiedTrainConfig
from dfm_vla_ros.training.loop import Trainer, make_accelerator, make_trainable, train
from dfm_vla_ros.training.objectives import Draws
from dfm_vla_ros.training.run_folder import RunFolder
from dfm_vla_ros.training.unified import UnifiedFrames

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SMALL = {"steps": 24, "save_every": 6, "lr": 0.01, "muon_lr": 0.01, "ema": 0.5, "batch": 8}


def run(tmp_path: Path, switches: dict[str, object] | None = None, **keys: object) -> TrainConfig:
    """Write data and a checkpoint of random weights; return a run that fine-tunes it."""
    write(tmp_path / "demos")
    unified_checkpoint(**(switches or {})).save(tmp_path / "base", "# base\n")
    return small_run(tmp_path, init=str(tmp_path / "base"), **{**SMALL, **keys})


def logits(refiner: UnifiedRefiner, checkpoint: UnifiedCheckpoint) -> torch.Tensor:
    """Return what ``refiner`` says of a fixed observation and fixed tokens."""
    seen = random_observation()
    ids = checkpoint.encode_prefix(seen.instruction, seen.images, seen.positions, seen.commanded)
    tokens = torch.arange(70)[None, None] % 64
    with torch.no_grad():
        return refiner(ids, tokens)


@pytest.mark.parametrize(
    ("objective", "architecture"), [("embed", "emu3"), ("masked", "llama"), ("ar", "emu3")]
)
def test_that_the_loss_falls_and_the_policy_decodes_as_it_was_trained(
    tmp_path: Path, objective: str, architecture: str
) -> None:
    config = run(tmp_path, {"architecture": architecture}, objective=objective)
    policy = Policy.load(train(config))
    losses = [float(row["held_loss"]) for row in rows(tmp_path / "run") if row["held_loss"]]
    assert losses[-1] < losses[0] - 0.2
    assert losses[-1] < np.log(64)
    methods = {"embed": "flow", "masked": "masked", "ar": "autoregressive"}
    assert policy.decoder.method == methods[objective]
    assert policy.act(random_observation()).tokens.shape == (5, 14)


@pytest.mark.parametrize("head", ["keep", "separate"])
def test_that_a_run_with_adapters_leaves_an_ordinary_checkpoint_that_acts_as_they_do(
    tmp_path: Path, head: str
) -> None:
    lora = LoraConfig(rank=4, targets=PROJECTIONS)
    switches = UnifiedTrainConfig(action_head=head)
    config = run(tmp_path, lora=lora, unified=switches)
    folder, accelerator = RunFolder(config.out), make_accelerator(config)
    folder.begin(config)
    trainable = make_trainable(config, folder, accelerator)
    trainer = Trainer(config, trainable, folder, accelerator)
    trainer.run()
    folder.release()
    saved = UnifiedCheckpoint.load(folder.checkpoint, whole=True)
    base = UnifiedCheckpoint.load(tmp_path / "base", whole=True)
    adapted = trainer.module.eval()
    with trainer.average.applied():
        expected = logits(adapted, saved)
    torch.testing.assert_close(logits(saved.refiner, saved), expected, atol=1e-4, rtol=1e-4)
    assert (expected - logits(base.refiner, base)).abs().max() > 0.01
    weights = [dict(c.refiner.backbone.state_dict()) for c in (base, saved)]
    changed = {k for k, value in weights[0].items() if not torch.equal(value, weights[1][k])}
    assert changed == {k for k in weights[0] if "_proj" in k or "embed_tokens" in k}
    assert (saved.refiner.action_head is not None) == (head == "separate")


def test_that_gradient_checkpointing_gives_the_same_gradients(tmp_path: Path) -> None:
    found = []
    for on in (False, True):
        config = run(tmp_path / str(on), gradient_checkpointing=on)
        trainable = make_trainable(config, RunFolder(config.out), make_accelerator(config))
        network = trainable.network.train()
        trainable.loss(network, trainable.batch(Draws(0, 1, 8, range(8)))).backward()
        found.append({k: p.grad for k, p in network.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-5, rtol=1e-5)


def test_that_a_batch_is_what_the_policy_would_see(tmp_path: Path) -> None:
    config = run(tmp_path, held_out=0.0)
    trainable = make_trainable(config, RunFolder(config.out), make_accelerator(config))
    draws = Draws(0, 1, 8, range(8))
    batch = trainable.batch(draws).tensors
    assert (batch["noised"][:, 0] != batch["target"]).any()
    assert (batch["times"][:, 0] == 0).all()
    again = trainable.batch(draws).tensors
    assert all(torch.equal(value, again[name]) for name, value in batch.items())
    checkpoint = UnifiedCheckpoint.load(tmp_path / "base")
    frame = int(draws.samples(trainable.samples)[0])
    shown, at = episode(frame // 20), frame % 20
    images = {camera: image[at] for camera, image in shown.images.items()}
    expected = checkpoint.encode_prefix(
        shown.instruction, images, shown.positions[at], shown.commanded[at]
    )
    assert torch.equal(batch["ids"][0], expected[0])


def test_that_a_second_run_finds_the_image_tokens(tmp_path: Path) -> None:
    config = run(tmp_path, steps=0)
    train(config)
    files = sorted((tmp_path / "image_tokens").rglob("*.npy"))
    assert len(files) == 4 * 3
    before = [path.stat().st_mtime_ns for path in files]
    train(replace(config, out=str(tmp_path / "second")))
    assert [path.stat().st_mtime_ns for path in files] == before


def test_that_short_instructions_are_padded_in_front() -> None:
    layout = replace(unified_checkpoint().layout, text_length=0)
    codes = {slot.camera: np.zeros((2, slot.count), np.int32) for slot in layout.images}
    joints = np.zeros((2, layout.proprioception_length), np.int64)
    texts = (np.array([3, 4, 5]), np.array([6]))
    frames = UnifiedFrames(layout, codes, joints, texts, np.array([0, 1]), torch.zeros(2, 70))
    ids, padding = frames.prefixes([1, 0])
    assert padding.tolist() == [2, 0]
    assert (ids[0, :2] == layout.special["pad"]).all()
    alone, none = frames.prefixes([1])
    assert none.tolist() == [0]
    assert torch.equal(ids[0, 2:], alone[0])


@pytest.mark.parametrize(
    ("switches", "keys", "message"),
    [
        ({}, {"objective": "l1"}, "objective is l1: a unified model has embed, masked, ar"),
        ({"shift": False}, {"objective": "ar"}, "objective is ar: it needs a model with shift"),
        ({"attention": "full"}, {}, "replicas is 2, but with attention full"),
        ({}, {"observation": "poses"}, "a unified model has no place for them"),
    ],
)
def test_that_settings_that_do_not_fit_the_network_are_refused(
    tmp_path: Path, switches: dict[str, object], keys: dict[str, object], message: str
) -> None:
    with pytest.raises((ConfigError, FlowError), match=message):
        train(run(tmp_path, switches, **keys))


def save_with_fast(folder: Path) -> None:
    """Write a checkpoint whose action tokens are FAST's: runs of coefficients, without order."""
    like, rng = unified_checkpoint(), np.random.default_rng(0)
    reference = rng.normal(0, 0.3, (40, 14))
    targets = reference[:, None] + rng.normal(0, 0.01, (40, 5, 14)).cumsum(1)
    joints = like.action.joint_names
    fast = FastTokenizer.fit(targets, reference, joints, [], 0.1, vocabulary_size=128, scale=10.0)
    counts = (like.text.vocabulary_size, 4096, fast.vocabulary_size - 1)
    layout = small_layout(*counts, like.layout.images, 256, end_token=True)
    config = replace(like.config.refiner, vocabulary_size=layout.vocabulary_size)
    sizes = (layout.action_ids, fast.token_count, layout.special["mask"])
    refiner = UnifiedRefiner(config, *sizes)
    described = replace(like.config, refiner=config)
    parts = {"refiner": refiner, "action": fast, "layout": layout}
    replace(like, config=described, **parts).save(folder, "# base\n")


def test_that_tokens_without_order_are_trained_only_as_such(tmp_path: Path) -> None:
    config = run(tmp_path, steps=2)
    save_with_fast(tmp_path / "base")
    with pytest.raises(ConfigError, match="tokens of kind fast have no order"):
        train(config)
    settings = {"path": PathConfig(kind="mixture"), "decoder": DecoderConfig(target="argmax")}
    policy = Policy.load(train(replace(config, smoothing_bins=0.0, **settings), overwrite=True))
    assert policy.tokenizer.kind == "fast"
    assert policy.act(random_observation()).tokens.shape == policy.tokenizer.token_shape
