"""The unified refiner: transformers' own modules and names, an exact cache of the prefix."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import ACTIONS, PREFIX, TOKENS, VOCABULARY, action_tokens, prefix_ids, unified

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.flow import MixturePath
from dfm_vla_ros.flow.baselines import Autoregressive, AutoregressiveConfig
from dfm_vla_ros.model.caching import Caching
from dfm_vla_ros.model.unified import BackboneError, UnifiedConfig, UnifiedRefiner, make_backbone
from dfm_vla_ros.model.vision import Emu3ImageTokenizer, Emu3VisionConfig

KINDS = [
    (architecture, attention, shift)
    for architecture in ("emu3", "llama")
    for attention in ("causal", "bidirectional")
    for shift in (True, False)
]


@pytest.mark.parametrize(("architecture", "attention", "shift"), KINDS)
@pytest.mark.parametrize("mode", ["off", "prefix"])
def test_that_the_cache_equals_the_full_pass_after_many_steps_and_another_prefix(
    architecture: str, attention: str, shift: bool, mode: str
) -> None:
    refiner = unified(architecture=architecture, attention=attention, shift=shift)
    tokens = action_tokens(16).transpose(0, 1)
    ids, other = prefix_ids(seed=1), prefix_ids(seed=5)
    full = [refiner(prefix, tokens) for prefix in (ids, other)]
    caches = [refiner.prefill(prefix, Caching(mode)) for prefix in (ids, other)]
    for step in range(16):
        for expected, cache in zip(full, caches, strict=True):
            logits = refiner.denoise(tokens[:, step], cache)
            torch.testing.assert_close(logits, expected[:, step], atol=1e-5, rtol=0)


def test_that_full_attention_is_computed_anew_each_time() -> None:
    refiner = unified(attention="full")
    ids, tokens = prefix_ids(), action_tokens(2)
    cache = refiner.prefill(ids)
    for row in tokens:
        expected = refiner(ids, row[:, None])[:, 0]
        torch.testing.assert_close(refiner.denoise(row, cache), expected, atol=1e-5, rtol=0)


def test_that_full_attention_refuses_replicas() -> None:
    with pytest.raises(FlowError, match="2 replicas share a prefix that sees the actions"):
        unified(attention="full")(prefix_ids(), action_tokens(2).transpose(0, 1))


@pytest.mark.parametrize("shift", [True, False])
def test_that_every_action_is_seen_by_every_other_but_not_by_the_prefix(shift: bool) -> None:
    refiner = unified(shift=shift)
    ids, tokens = prefix_ids(batch=1), action_tokens(1, batch=1)[0]
    cache = refiner.prefill(ids)
    before = refiner.denoise(tokens, cache)
    keys = [key[:, :, : cache.length].clone() for key in cache.keys]
    for place in (0, TOKENS - 1):
        moved = tokens.clone()
        moved[:, place] = (moved[:, place] + 20) % ACTIONS
        assert ((refiner.denoise(moved, cache) - before).abs().amax(-1) > 1e-6).all()
    assert all(
        torch.equal(key[:, :, : cache.length], kept)
        for key, kept in zip(cache.keys, keys, strict=True)
    )


def test_that_an_autoregressive_checkpoint_becomes_a_refiner_without_touching_a_weight() -> None:
    refiner = unified()
    plain = make_backbone(refiner.config)
    assert plain.state_dict().keys() == refiner.backbone.state_dict().keys()
    # With one action token that token sees what it saw before: the logits are the model's own.
    plain.load_state_dict(refiner.backbone.state_dict())
    ids = prefix_ids(batch=1)
    expected = plain.eval()(input_ids=ids).logits[:, -1, refiner.ids[:-1]]
    cache = refiner.prefill(ids)
    logits = refiner.next_logits(torch.zeros(1, TOKENS, dtype=torch.long), 0, 1, cache)
    torch.testing.assert_close(logits[:, 0], expected, atol=1e-5, rtol=0)


def test_that_autoregression_with_the_cache_is_the_models_own_greedy_decoding() -> None:
    refiner = unified()
    ids = prefix_ids()
    decoder = Autoregressive(MixturePath(ACTIONS))
    for _ in range(2):  # the second time over another cache of the same network
        solution = decoder(_incremental(refiner), (2, TOKENS), refiner.prefill(ids))
    whole = ids
    for _ in range(TOKENS):
        logits = refiner.backbone(input_ids=whole).logits[:, -1, refiner.ids[:-1]]
        whole = torch.cat([whole, refiner.ids[logits.argmax(-1)][:, None]], dim=1)
    assert torch.equal(refiner.ids[solution.tokens], whole[:, PREFIX:])
    assert solution.evaluations == TOKENS


def test_that_committed_tokens_are_skipped_and_still_seen_by_autoregression() -> None:
    refiner = unified()
    ids, decoder = prefix_ids(), Autoregressive(MixturePath(ACTIONS))
    free = decoder(_incremental(refiner), (2, TOKENS), refiner.prefill(ids)).tokens
    committed = (torch.arange(TOKENS) < 7, free)
    again = decoder(_incremental(refiner), (2, TOKENS), refiner.prefill(ids), committed=committed)
    assert again.evaluations == TOKENS - 7
    assert torch.equal(again.tokens, free)


def test_that_groups_and_networks_without_shift_are_refused_by_autoregression() -> None:
    refiner = unified()
    decoder = Autoregressive(MixturePath(ACTIONS), AutoregressiveConfig(group=2))
    with pytest.raises(FlowError, match=r"tokens 0\.\.1 are asked for; this network predicts 1"):
        decoder(_incremental(refiner), (2, TOKENS), refiner.prefill(prefix_ids()))
    refiner = unified(shift=False)
    with pytest.raises(FlowError, match="only a causal network with shift"):
        refiner.next_logits(torch.zeros(2, TOKENS).long(), 0, 1, refiner.prefill(prefix_ids()))


def test_that_a_separate_head_starts_as_the_models_rows_and_is_apart() -> None:
    tied, separate = unified(), unified(action_head="separate")
    separate.backbone.load_state_dict(tied.backbone.state_dict())
    separate.start_head()
    ids, tokens = prefix_ids(), action_tokens(1)[0]
    before = separate.denoise(tokens, separate.prefill(ids))
    assert torch.equal(before, tied.denoise(tokens, tied.prefill(ids)))
    separate.backbone.lm_head.weight *= 2
    assert torch.equal(separate.denoise(tokens, separate.prefill(ids)), before)


def test_that_logits_are_made_of_the_action_rows_alone() -> None:
    refiner = unified()
    ids, tokens = prefix_ids(), action_tokens(1)[0]
    before = refiner.denoise(tokens, refiner.prefill(ids))
    assert before.shape == (2, TOKENS, ACTIONS)
    refiner.keep_rows()
    assert torch.equal(refiner.denoise(tokens, refiner.prefill(ids)), before)
    assert (
        sum(p.numel() for p in refiner.parameters())
        == sum(p.numel() for p in unified().parameters()) - VOCABULARY * 64
    )


def test_that_moving_the_weights_renews_what_was_joined_of_them() -> None:
    refiner = unified()
    ids, tokens = prefix_ids(), action_tokens(1)[0]
    before = refiner.denoise(tokens, refiner.prefill(ids))
    refiner.double()
    after = refiner.denoise(tokens, refiner.prefill(ids))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    for layer in refiner.layers.layers:
        layer.self_attn.v_proj.weight.zero_()  # in place: the joined weights are the same ones
    assert not torch.allclose(refiner.denoise(tokens, refiner.prefill(ids)), after)


def test_that_a_copy_of_a_network_in_use_is_a_network_of_its_own() -> None:
    refiner = unified()
    ids, tokens = prefix_ids(), action_tokens(1)[0]
    before = refiner.denoise(tokens, refiner.prefill(ids))
    other = copy.deepcopy(refiner)
    for weight in other.parameters():
        weight.mul_(0.5)
    assert torch.equal(refiner.denoise(tokens, refiner.prefill(ids)), before)
    assert not torch.allclose(other.denoise(tokens, other.prefill(ids)), before)


def test_that_training_in_place_is_seen_by_inference() -> None:
    refiner = unified().requires_grad_(True)
    ids, tokens = prefix_ids(), action_tokens(1)[0]
    refiner.denoise(tokens, refiner.prefill(ids))
    optimiser = torch.optim.SGD(refiner.parameters(), lr=0.1)
    refiner(ids, tokens[:, None]).square().mean().backward()
    optimiser.step()
    expected = refiner(ids, tokens[:, None])[:, 0]
    found = refiner.denoise(tokens, refiner.prefill(ids))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_that_univlas_model_has_eight_and_a_half_billion_weights() -> None:
    with torch.device("meta"):
        backbone = make_backbone(UnifiedConfig())
    attention, mlp = 2 * 4096 * 4096 + 2 * 4096 * 1024, 3 * 4096 * 14_336
    expected = 2 * 184_622 * 4096 + 32 * (attention + mlp + 2 * 4096) + 4096
    assert sum(p.numel() for p in backbone.parameters()) == expected == 8_492_011_520
    assert "model.layers.31.self_attn.k_proj.weight" in backbone.state_dict()
    assert backbone.lm_head.weight.shape == (184_622, 4096)


@pytest.mark.parametrize(("bytes_a_weight", "most_gb"), [(2, 17.0), (1, 10.0)])
def test_that_univlas_policy_fits_20_gb_in_bf16_and_a_16_gb_card_in_8_bits(
    bytes_a_weight: int, most_gb: float
) -> None:
    with torch.device("meta"):
        refiner = UnifiedRefiner(UnifiedConfig(), range(1025), 70, 151646)
        vision = Emu3ImageTokenizer(Emu3VisionConfig())
    vision.forget_decoder()
    refiner.keep_rows(torch.empty(1025, 4096, device="meta"))
    layers = sum(p.numel() for p in refiner.layers.layers.parameters())
    rest = sum(p.numel() for p in refiner.parameters()) - layers + 1025 * 4096
    cache = 2 * 32 * 8 * 128 * (1250 + 71)
    image = 4 * sum(p.numel() for p in vision.parameters())
    needed = bytes_a_weight * layers + 2 * (rest + cache) + image
    assert needed < 1e9 * most_gb
    assert needed > 0.9e9 * most_gb


def test_that_wrong_switches_and_sizes_are_refused() -> None:
    with pytest.raises(BackboneError, match="attention is 'both'; choose one of causal"):
        UnifiedConfig(attention="both")
    with pytest.raises(BackboneError, match="width 65 must be a multiple of heads 4"):
        unified(width=65)


class _incremental:  # noqa: N801
    """The refiner as the decoder of `flow.baselines` wants it."""

    def __init__(self, refiner: UnifiedRefiner) -> None:
        self.next_logits = refiner.next_logits
