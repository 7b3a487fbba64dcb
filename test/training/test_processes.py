"""Several processes do what one does with the whole batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from demonstrations import launch, rows, small_run, write
from safetensors.torch import load_file

from dfm_vla_ros.training.config import AugmentationConfig, ConfigError
from dfm_vla_ros.training.loop import train


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last" / "weights.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("embed", {}),
        ("ar", {"optimiser": "adamw"}),
        # The number of tokens that count differs between the processes.
        ("masked", {"accumulate": 2}),
        ("head", {"sharding": "fsdp", "optimiser": "adamw", "accumulate": 2}),
    ],
)
def test_that_two_processes_equal_one_with_twice_the_batch(
    objective: str, changes: dict[str, object], tmp_path: Path
) -> None:
    write(tmp_path / "demos")
    config = small_run(
        tmp_path,
        objective=objective,
        steps=20,
        save_every=10,
        batch=8,
        augmentation=AugmentationConfig(code_dropout=0.1, variants=2),
        # Where a loss does not depend on a weight, such as one added to all logits, its gradient
        # is rounding alone, which a smaller epsilon would blow up to full steps.
        epsilon=1e-6,
        **changes,
    )
    one, two = (replace(config, out=str(tmp_path / name)) for name in ("one", "two"))
    train(replace(one, sharding="none", accumulate=1))
    # The image tokenizer is trained in whichever process comes first; the seed makes it the same.
    launch(two, 2)
    ours, theirs = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert ours.keys() == theirs.keys()
    if config.optimiser == "adamw":  # Muon computes in bf16
        assert max(float((ours[key] - theirs[key]).abs().max()) for key in ours) < 1e-4
    for mine, other in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert float(mine["loss"]) == pytest.approx(float(other["loss"]), abs=1e-5)
        if mine["held_loss"]:
            assert float(mine["held_loss"]) == pytest.approx(float(other["held_loss"]), abs=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_that_a_run_of_two_processes_goes_on_with_one(tmp_path: Path) -> None:
    write(tmp_path / "demos")
    config = small_run(
        tmp_path,
        observation="poses",
        steps=20,
        save_every=10,
        sharding="fsdp",
        optimiser="adamw",
        epsilon=1e-6,
    )
    whole = train(replace(config, out=str(tmp_path / "whole")))
    launch(replace(config, max_seconds=1e-3), 2)
    assert rows(tmp_path / "run")[-1]["step"] == "1"
    train(config)
    assert rows(tmp_path / "run")[-1]["step"] == "20"
    mine, other = (
        load_file(run / "model.safetensors") for run in (tmp_path / "run" / "checkpoint", whole)
    )
    assert max(float((mine[key] - other[key]).abs().max()) for key in mine) < 1e-4


def test_that_a_batch_that_cannot_be_shared_out_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "demos")
    with pytest.raises(ConfigError, match="batch is 9, no multiple of accumulate, 2"):
        small_run(tmp_path, batch=9, accumulate=2)
