"""Every way to decode that a checkpoint can ask for, through the policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import random_observation, small_checkpoint

from dfm_vla_ros.model.checkpoint import Checkpoint
from dfm_vla_ros.model.folder import CheckpointError, DecoderConfig, PathConfig
from dfm_vla_ros.model.refiner import Refiner
from dfm_vla_ros.policy.policy import Policy, nearest_logits
from dfm_vla_ros.policy.types import Guidance

KINDS = {
    "flow": ("mixture", "rates", 16),
    "autoregressive": ("metric", "logits", 8),
    "masked": ("masked", "logits", 16),
    "remasked": ("masked", "logits", 16),
    "one_step": ("metric", "logits", 1),
    "regression": ("masked", "values", 1),
}


def checkpoint_of(method: str) -> Checkpoint:
    """Return a random checkpoint of the method."""
    kind, outputs, _ = KINDS[method]
    base = small_checkpoint()
    sizes = replace(base.config.refiner, outputs=outputs)
    torch.manual_seed(1)
    refiner = Refiner(sizes).eval()
    with torch.no_grad():
        refiner.head.weight *= 50
    config = replace(
        base.config,
        refiner=sizes,
        path=PathConfig(kind=kind),
        decoder=DecoderConfig(target="argmax", method=method),
    )
    return replace(base, config=config, refiner=refiner)


@pytest.mark.parametrize("method", KINDS)
def test_that_a_saved_checkpoint_of_every_method_acts(method: str, tmp_path: Path) -> None:
    checkpoint_of(method).save(tmp_path / "saved", "")
    policy = Policy.load(tmp_path / "saved")
    chunk = policy.act(random_observation(), seed=3)
    assert chunk.evaluations == KINDS[method][2]
    assert chunk.tokens.min() >= 0
    assert chunk.tokens.max() < 64
    assert np.array_equal(chunk.tokens, policy.act(random_observation(), seed=3).tokens)


@pytest.mark.parametrize("method", KINDS)
def test_that_every_method_keeps_committed_tokens(method: str) -> None:
    policy = Policy(checkpoint_of(method))
    committed = np.zeros((8, 14), dtype=bool)
    committed[:3] = True
    held = np.full((8, 14), 5)
    tokens = policy.act(random_observation(), guidance=Guidance(committed, held, None, 3)).tokens
    assert (tokens[:3] == 5).all()


@torch.no_grad()
def test_that_teacher_forcing_gives_the_logits_of_decoding_step_by_step() -> None:
    checkpoint = checkpoint_of("autoregressive")
    refiner, tokens = checkpoint.refiner, torch.randint(64, (1, 2, 112))
    observation = random_observation()
    prefix = checkpoint.encode_prefix(
        observation.instruction,
        observation.images,
        observation.positions,
        observation.commanded,
    )
    whole = refiner(prefix, tokens, causal=True)
    for replica in range(2):
        cache = refiner.prefill(prefix)
        for first in range(0, 112, 14):
            step = refiner.next_logits(tokens[:, replica], first, 14, cache)
            assert torch.allclose(whole[:, replica, first : first + 14], step, atol=1e-4)


def test_that_regression_takes_the_nearest_token() -> None:
    values = torch.tensor([[-1.2, -0.99, 0.0, 0.501, 1.4]])
    assert nearest_logits(values, 5).argmax(-1).tolist() == [[0, 0, 2, 3, 4]]


def test_that_a_method_is_refused_on_a_path_that_it_cannot_decode() -> None:
    masked = checkpoint_of("masked")
    with pytest.raises(CheckpointError, match="kind masked"):
        Policy(replace(masked, config=replace(masked.config, path=PathConfig())))
    head = checkpoint_of("flow")
    with pytest.raises(CheckpointError, match="kind mixture"):
        Policy(replace(head, config=replace(head.config, path=PathConfig())))
