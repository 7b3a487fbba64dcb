"""Short runs on made-up data sets: from files to a policy that acts, stopped and resumed."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from demonstrations import episode, rows, small_run, write
from safetensors.torch import load_file
from small import INSTRUCTION, random_observation

from dfm_vla_ros.data.format import DatasetError
from dfm_vla_ros.model.folder import folder_hash
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.training.config import AugmentationConfig, ConfigError, EvaluationConfig
from dfm_vla_ros.training.loop import TrainingFailed, train
from dfm_vla_ros.training.run_folder import StateError
from dfm_vla_ros.training.small import SmallTrainable


@pytest.fixture(autouse=True)
def demos(tmp_path: Path) -> Path:
    return write(tmp_path / "demos")


def poses_run(tmp_path: Path, **changes: object) -> object:
    """Return a run without images, which is made sooner."""
    return small_run(tmp_path, observation="poses", steps=12, save_every=4, log_every=2, **changes)


def test_that_a_run_learns_and_leaves_a_policy_that_acts(tmp_path: Path) -> None:
    folder = train(small_run(tmp_path))
    measured = [row for row in rows(tmp_path / "run") if row["held_loss"]]
    assert [int(row["step"]) for row in measured] == [30, 60]
    assert float(measured[1]["held_loss"]) < float(measured[0]["held_loss"]) < np.log(256)
    policy = Policy.load(folder)
    assert policy.act(random_observation()).tokens.shape == (8, 14)
    assert policy.tasks == {"place_block": INSTRUCTION}
    assert folder_hash(tmp_path / "run" / "best") == folder_hash(folder)


@pytest.mark.parametrize("objective", ["embed", "head", "ar", "masked", "l1"])
def test_that_every_objective_learns_and_decodes(objective: str, tmp_path: Path) -> None:
    rates = {"lr": 0.02, "muon_lr": 0.02, "action_vocabulary": 64}
    config = small_run(tmp_path, observation="poses", objective=objective, **rates)
    folder = train(config)
    seen = episode(1)
    at = 10
    observation = Observation(
        {}, seen.positions[at], seen.commanded[at], INSTRUCTION, seen.poses[at]
    )
    policy = Policy.load(folder)
    chunk = policy.act(observation)
    reached = policy.tokenizer.decode(chunk.tokens, chunk.reference)
    assert policy.decoder.method == {
        "ar": "autoregressive",
        "masked": "masked",
        "l1": "regression",
    }.get(objective, "flow")
    # The arms go on by 0.3 / 19 a step; without learning they would go anywhere within 0.1.
    error = np.abs(reached[-1, :6] - seen.targets[at + 8, :6]).mean()
    assert error < 0.015


def test_that_the_same_seed_gives_the_same_losses_and_another_does_not(tmp_path: Path) -> None:
    seen = []
    for number, seed in enumerate((0, 0, 1)):
        config = replace(poses_run(tmp_path, seed=seed), out=str(tmp_path / str(number)))
        train(config)
        seen.append([(row["loss"], row["held_loss"]) for row in rows(tmp_path / str(number))])
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def test_that_computing_activations_again_changes_nothing_but_memory(tmp_path: Path) -> None:
    losses = []
    for again in (False, True):
        config = poses_run(tmp_path, gradient_checkpointing=again)
        train(replace(config, out=str(tmp_path / str(again))))
        losses.append([row["loss"] for row in rows(tmp_path / str(again))])
    assert losses[0] == losses[1]


def test_that_no_steps_leave_an_untrained_checkpoint_measured_on_nothing(tmp_path: Path) -> None:
    folder = train(replace(poses_run(tmp_path), steps=0, held_out=0.0))
    assert Policy.load(folder).pose_names == ("block.x", "block.y")


def test_that_an_empty_data_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="dfm-vla collect"):
        train(replace(small_run(tmp_path), data=(str(tmp_path / "none"),)))


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let SIGINT come while ``step`` is under way."""
    original = SmallTrainable.loss
    count = [0]

    def loss(self: SmallTrainable, *arguments: object) -> torch.Tensor:
        count[0] += 1
        if count[0] == step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(SmallTrainable, "loss", loss)


def test_that_an_interrupted_run_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = poses_run(tmp_path, augmentation=AugmentationConfig(code_dropout=0.2))
    whole = train(replace(config, out=str(tmp_path / "whole")))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)
        train(config)
    assert rows(tmp_path / "run")[-1]["step"] == "7"
    stopped = train(config)
    assert folder_hash(stopped) == folder_hash(whole)
    ours, theirs = rows(tmp_path / "run"), rows(tmp_path / "whole")
    assert ours[-1]["loss"] == theirs[-1]["loss"]
    assert [int(row["step"]) for row in ours] == [2, 4, 6, 7, 8, 10, 12]
    for name in ("weights", "average", "optimiser"):
        mine, other = (
            load_file(tmp_path / r / "last" / f"{name}.safetensors") for r in ("run", "whole")
        )
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[key], other[key]) for key in mine)


def test_that_a_run_with_other_settings_is_refused_by_name(tmp_path: Path) -> None:
    config = poses_run(tmp_path)
    train(config)
    with pytest.raises(ConfigError, match=r"other settings \(lr: 0\.0015 -> 0\.01\).*--overwrite"):
        train(replace(config, lr=0.01))
    with pytest.raises(ConfigError, match="resume is false"):
        train(replace(config, resume=False))
    before = folder_hash(tmp_path / "run" / "checkpoint")
    assert folder_hash(train(replace(config, save_every=5))) == before
    assert folder_hash(train(replace(config, lr=0.01), overwrite=True)) != before
    assert rows(tmp_path / "run")[-1]["step"] == "12"


def test_that_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("all my work")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="no training run"):
            train(poses_run(tmp_path), overwrite=overwrite)
    assert (tmp_path / "run" / "thesis.tex").read_text() == "all my work"


def test_that_a_run_refuses_to_go_on_with_other_data(tmp_path: Path) -> None:
    config = poses_run(tmp_path)
    train(config)
    write(tmp_path / "demos2", count=5)
    (tmp_path / "demos").rename(tmp_path / "old")
    (tmp_path / "demos2").rename(tmp_path / "demos")
    with pytest.raises(StateError, match="not those that"):
        train(config)


def test_that_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_evidence(
    tmp_path: Path,
) -> None:
    config = poses_run(tmp_path, lr=1e18, clip=1e30, optimiser="adamw", warmup_steps=1)
    with pytest.raises(TrainingFailed, match=r"at step \d+.*lower lr") as failure:
        train(config)
    (folder,) = (tmp_path / "run").glob("failed-step-*")
    assert str(folder) in str(failure.value)
    batch = load_file(folder / "batch-0-0" / "batch.safetensors")
    assert batch["target"].shape == (8, 112)
    weights = load_file(folder / "weights.safetensors")
    assert weights.keys() == parameter_names(tmp_path)
    assert all(row["loss"] != "nan" for row in rows(tmp_path / "run"))


def parameter_names(tmp_path: Path) -> set[str]:
    """Return the names in a checkpoint of such a run."""
    folder = train(replace(poses_run(tmp_path), steps=0, out=str(tmp_path / "names")))
    return {name.removeprefix("refiner.") for name in load_file(folder / "model.safetensors")}


def test_that_the_best_checkpoint_by_success_is_kept(tmp_path: Path) -> None:
    successes = {4: 0.2, 8: 0.9, 12: 0.9}
    hashes = {}

    def evaluate(checkpoint: Path, step: int) -> dict[str, float]:
        hashes[step] = folder_hash(checkpoint)
        return {"success": successes[step], "success_place_block": successes[step]}

    evaluation = EvaluationConfig(every=4)
    train(poses_run(tmp_path, keep_best="success", evaluation=evaluation), evaluate)
    assert folder_hash(tmp_path / "run" / "best") == hashes[8]
    measured = {int(row["step"]): row["success"] for row in rows(tmp_path / "run")}
    assert {step: float(text) for step, text in measured.items() if text} == successes


def test_that_time_ends_a_run_and_its_learning_rate(tmp_path: Path) -> None:
    config = replace(poses_run(tmp_path, warmup_steps=0), steps=100_000, max_seconds=1.5)
    train(config)
    last = rows(tmp_path / "run")[-1]
    assert float(last["seconds"]) >= 1.5
    assert float(last["lr_factor"]) < 0.6, "it was 1 at the start and follows the time"
    assert int(last["step"]) < 100_000
    before = folder_hash(tmp_path / "run" / "checkpoint")
    assert folder_hash(train(config)) == before, "its time is up"


def test_that_training_goes_on_from_another_checkpoint(tmp_path: Path) -> None:
    first = train(poses_run(tmp_path))
    second = replace(poses_run(tmp_path), out=str(tmp_path / "second"), init=str(first))
    train(replace(second, steps=0))
    assert Policy.load(tmp_path / "second" / "checkpoint").tasks == Policy.load(first).tasks
    start = load_file(tmp_path / "second" / "checkpoint" / "model.safetensors")
    end = load_file(first / "model.safetensors")
    assert all(torch.equal(start[name], end[name]) for name in end)
    with pytest.raises(ConfigError, match=r"horizon is 4, but .* has 8"):
        train(replace(second, horizon=4), overwrite=True)
