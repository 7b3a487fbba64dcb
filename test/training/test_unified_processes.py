"""A unified network in shards over two processes (FSDP, gloo) is the network of one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from demonstrations import launch, rows, small_run, write
from safetensors.torch import load_file
from tiny_univla import unified_checkpoint

from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint
from dfm_vla_ros.training.config import LoraConfig
from dfm_vla_ros.training.loop import train


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_checkpointing": True},
        {"lora": LoraConfig(rank=4), "accumulate": 2},
    ],
    ids=["all weights", "adapters"],
)
def test_that_emu3_in_shards_learns_as_in_one_process(
    changes: dict[str, object], tmp_path: Path
) -> None:
    write(tmp_path / "demos")
    base = unified_checkpoint(architecture="emu3")
    if "lora" in changes:
        base.refiner.bfloat16()  # frozen in bf16, adapters in fp32, as the large model
    base.save(tmp_path / "base", "# base\n", shard=100_000)
    config = small_run(
        tmp_path,
        init=str(tmp_path / "base"),
        steps=6,
        save_every=3,
        batch=8,
        precision="bf16" if "lora" in changes else "fp32",
        optimiser="adamw",
        epsilon=1e-6,
        **changes,
    )
    one, two = (replace(config, out=str(tmp_path / name)) for name in ("one", "two"))
    train(replace(one, accumulate=1))
    launch(replace(two, sharding="fsdp"), 2)
    # In bf16 sums of parts are rounded otherwise.
    error = 1e-4 if config.precision == "fp32" else 5e-3
    for mine, other in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert float(mine["loss"]) == pytest.approx(float(other["loss"]), abs=error)
    ours, theirs = (
        load_file(tmp_path / n / "last" / "weights.safetensors") for n in ("one", "two")
    )
    assert ours.keys() == theirs.keys()
    assert max(float((ours[key] - theirs[key]).abs().max()) for key in ours) < 2 * error
    saved = UnifiedCheckpoint.load(tmp_path / "two" / "checkpoint", whole=True)
    was = UnifiedCheckpoint.load(tmp_path / "base", whole=True)
    key = "model.layers.0.self_attn.q_proj.weight"
    before, after = (c.refiner.backbone.state_dict()[key] for c in (was, saved))
    assert before.dtype == after.dtype
    assert not torch.equal(before, after)
