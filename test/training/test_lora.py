"""Adapters: they alone are trained, and what is saved acts as they do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks import action_tokens, prefix_ids, unified
from small import random_observation
from tiny_univla import unified_checkpoint

from dfm_vla_ros.model.unified import UnifiedRefiner
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.training.lora import (
    LoraConfig,
    LoraError,
    add_adapters,
    has_adapters,
    merged,
    merged_weights,
)


def steps(refiner: UnifiedRefiner, count: int = 12) -> list[float]:
    """Learn one answer; return the losses."""
    ids, tokens = prefix_ids(), action_tokens(1)[0]
    weights = [weight for weight in refiner.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=0.02, weight_decay=0.0)
    losses = []
    for _ in range(count):
        logits = refiner(ids, tokens[:, None])[:, 0]
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens.flip(1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("architecture", ["emu3", "llama"])
@pytest.mark.parametrize("head", ["tied", "separate"])
def test_that_adapters_learn_and_no_other_weight_moves(architecture: str, head: str) -> None:
    refiner = unified(architecture=architecture, action_head=head)
    before = {name: weight.clone() for name, weight in refiner.state_dict().items()}
    add_adapters(refiner.train(), LoraConfig(rank=4))
    losses = steps(refiner)
    assert losses[-1] < 0.8 * losses[0]
    for name, weight in refiner.state_dict().items():
        plain = name.replace(".base_layer", "").replace("embed_tokens.whole", "embed_tokens")
        if "lora_" in name or name.endswith("embed_tokens.rows"):
            continue
        moved = not torch.equal(weight, before[plain])
        assert moved == (plain == "action_head.weight"), name


def test_that_adapters_begin_as_nothing() -> None:
    refiner, adapted = unified(), unified()
    add_adapters(adapted, LoraConfig(rank=4))
    ids, tokens = prefix_ids(), action_tokens(1).transpose(0, 1)
    torch.testing.assert_close(adapted(ids, tokens), refiner(ids, tokens), atol=1e-6, rtol=0)
    assert has_adapters(adapted) and not has_adapters(refiner)


def test_that_only_the_embeddings_of_the_actions_are_trained() -> None:
    refiner = unified()
    add_adapters(refiner, LoraConfig(rank=2))
    before = unified().layers.embed_tokens.weight
    steps(refiner.train())
    after = dict(merged_weights(refiner))["backbone.model.embed_tokens.weight"]
    changed = (after != before).any(1).nonzero().flatten().tolist()
    used = refiner.ids[action_tokens(1)[0]].unique().tolist()
    assert changed == used


@pytest.mark.parametrize("switches", [{}, {"action_head": "separate"}])
def test_that_the_merged_checkpoint_acts_as_the_adapted_network(
    tmp_path: Path, switches: dict[str, object]
) -> None:
    checkpoint = unified_checkpoint(**switches)
    untrained = Policy(checkpoint).act(random_observation()).tokens
    checkpoint = unified_checkpoint(**switches)
    add_adapters(checkpoint.refiner, LoraConfig(rank=4))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in checkpoint.refiner.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
    merged(checkpoint).save(tmp_path / "merged", "# test\n")
    policy = Policy.load(tmp_path / "merged")
    seen = random_observation()
    ids = checkpoint.encode_prefix(seen.instruction, seen.images, seen.positions, seen.commanded)
    tokens = torch.randint(0, 64, (1, 3, 70), generator=generator)
    plain = merged(checkpoint).refiner
    torch.testing.assert_close(
        plain(ids, tokens), checkpoint.refiner(ids, tokens), atol=1e-4, rtol=1e-4
    )
    acted = policy.act(seen).tokens
    assert (acted == Policy(merged(checkpoint)).act(seen).tokens).all()
    assert (acted != untrained).any()


def test_that_merging_leaves_the_trained_network_as_it_is() -> None:
    checkpoint = unified_checkpoint()
    add_adapters(checkpoint.refiner, LoraConfig(rank=4))
    before = {name: weight.clone() for name, weight in checkpoint.refiner.state_dict().items()}
    merged(checkpoint)
    assert has_adapters(checkpoint.refiner)
    for name, weight in checkpoint.refiner.state_dict().items():
        assert torch.equal(weight, before[name])


def test_that_a_target_that_is_not_there_and_tied_rows_are_refused() -> None:
    with pytest.raises(LoraError, match=r"lora\.targets \['q_porj'\] are none of"):
        add_adapters(unified(), LoraConfig(4, targets=("q_porj",)))
    with pytest.raises(LoraError, match="the head is the embedding"):
        add_adapters(unified(tied_embeddings=True), LoraConfig(4))
