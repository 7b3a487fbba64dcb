"""Adapters: they alone are trained."""

from __future__ import annotations

import pytest
import torch
from networks import action_tokens, prefix_ids, unified

from dfm_vla_ros.model.unified import UnifiedRefiner
from dfm_vla_ros.training.config import LoraConfig
from dfm_vla_ros.training.unified_weights import (
    LoraError,
    add_adapters,
    merged_weight,
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
    add_adapters(refiner.train(), LoraConfig(rank=4), True)
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
    add_adapters(adapted, LoraConfig(rank=4), True)
    ids, tokens = prefix_ids(), action_tokens(1).transpose(0, 1)
    torch.testing.assert_close(adapted(ids, tokens), refiner(ids, tokens), atol=1e-6, rtol=0)
    assert any(".lora_" in name for name, _ in adapted.named_parameters())
    assert not any(".lora_" in name for name, _ in refiner.named_parameters())


def test_that_only_the_embeddings_of_the_actions_are_trained() -> None:
    refiner = unified()
    config = LoraConfig(rank=2)
    add_adapters(refiner, config, True)
    before = unified().layers.embed_tokens.weight
    steps(refiner.train())
    trained = dict(refiner.named_parameters())
    after = merged_weight("model.embed_tokens.weight", before, trained, config, refiner.ids)
    changed = (after != before).any(1).nonzero().flatten().tolist()
    used = refiner.ids[action_tokens(1)[0]].unique().tolist()
    assert changed == used


def test_that_adapters_beside_weights_in_bf16_are_in_fp32() -> None:
    refiner = unified(action_head="separate").bfloat16()
    add_adapters(refiner, LoraConfig(rank=4), True)
    for name, weight in refiner.named_parameters():
        assert weight.dtype == (torch.float32 if weight.requires_grad else torch.bfloat16), name


def test_that_a_target_that_is_not_there_and_tied_rows_are_refused() -> None:
    with pytest.raises(LoraError, match=r"lora\.targets \['q_porj'\] are none of"):
        add_adapters(unified(), LoraConfig(4, targets=("q_porj",)), True)
    with pytest.raises(LoraError, match="the embedding is the head too"):
        add_adapters(unified(tied_embeddings=True), LoraConfig(4), True)
    add_adapters(unified(tied_embeddings=True), LoraConfig(4), False)
