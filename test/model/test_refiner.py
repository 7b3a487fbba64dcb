"""The refiner: a clean prefix that never sees the actions, so its cache is exact."""

from __future__ import annotations

import pytest
import torch
from small import small_checkpoint

from dfm_vla_ros.model.refiner import Prefix, Refiner, cosine_features


def setup(
    batch: int = 3, replicas: int = 2, grouping: int = 14
) -> tuple[Refiner, Prefix, torch.Tensor]:
    refiner = small_checkpoint(grouping=grouping).refiner
    c = refiner.config
    prefix = Prefix(
        torch.randint(c.text_vocabulary, (batch, c.text_length)),
        torch.randint(4096, (batch, c.views, c.grid**2)),
        torch.randint(c.proprioception_vocabulary, (batch, 2 * c.action_dim)),
    )
    return refiner, prefix, torch.randint(64, (batch, replicas, c.horizon * c.action_dim))


@pytest.mark.parametrize("grouping", [14, 1])
def test_that_the_prefix_cache_equals_the_full_pass_also_after_many_steps(grouping: int) -> None:
    refiner, prefix, tokens = setup(grouping=grouping)
    with torch.no_grad():
        full = refiner(prefix, tokens)
        cache = refiner.prefill(prefix)
        for replica in [0, 1] * 8:
            cached = refiner.denoise(tokens[:, replica], cache)
            torch.testing.assert_close(cached, full[:, replica], atol=1e-5, rtol=0)


def test_that_replicas_do_not_see_each_other() -> None:
    refiner, prefix, tokens = setup()
    changed = tokens.clone()
    changed[:, 1] = (changed[:, 1] + 7) % 64
    with torch.no_grad():
        before, after = refiner(prefix, tokens), refiner(prefix, changed)
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert not torch.allclose(after[:, 1], before[:, 1])


def test_that_every_action_token_sees_every_other_and_every_part_of_the_prefix() -> None:
    refiner, prefix, tokens = setup(batch=1, replicas=1)
    refiner.requires_grad_(True)
    with torch.no_grad():
        base = refiner(prefix, tokens)
        moved = tokens.clone()
        moved[..., -1] = (moved[..., -1] + 20) % 64
        assert (refiner(prefix, moved) - base)[0, 0, 0].abs().max() > 0
        for name in ("text", "codes", "proprioception"):
            part = getattr(prefix, name).clone()
            part[0].view(-1)[0] = (part[0].view(-1)[0] + 1) % 2
            other = Prefix(**{**prefix.__dict__, name: part})
            assert (refiner(other, tokens) - base).abs().max() > 0, name


def test_that_plain_and_fused_attention_agree() -> None:
    refiner, prefix, tokens = setup()
    with torch.no_grad():
        fused = refiner(prefix, tokens)
        refiner.backbone.set_attn_implementation("eager")
        torch.testing.assert_close(refiner(prefix, tokens), fused, atol=1e-5, rtol=1e-4)


def test_that_neighbouring_tokens_are_closer_than_distant_ones() -> None:
    features = cosine_features(256, 64)
    distance = torch.cdist(features[128:129], features)[0]
    assert distance.argmin() == 128
    assert distance[129] < distance[140] < distance[200]
