"""The adaptive cache: exact when it computes all, cheaper and close when it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from networks import ACTIONS, TOKENS, action_tokens, prefix_ids, small, unified

from dfm_vla_ros.flow.baselines import Masked, MaskedPath
from dfm_vla_ros.model.caching import Caching, CachingError, ChunkCache
from dfm_vla_ros.model.engine import Incremental

Case = tuple[Incremental, Callable[[Caching], ChunkCache], torch.Tensor]


def case(kind: str, batch: int = 1) -> Case:
    """Return a network, its prefill, and a sequence of tokens (16, B, N)."""
    if kind == "unified":
        refiner, ids = unified(), prefix_ids(batch)
        return refiner, lambda caching: refiner.prefill(ids, caching), action_tokens(16, batch)
    refiner, prefix = small(grouping=int(kind))
    rows = [torch.randint(64, (1, 112), generator=torch.Generator().manual_seed(0))]
    for step in range(15):
        changed = rows[-1].clone()
        changed[0, step * 7] = (changed[0, step * 7] + 9) % 64
        rows.append(changed)
    return refiner, lambda caching: refiner.prefill(prefix, caching), torch.stack(rows)


@pytest.mark.parametrize("kind", ["unified", "14", "1"])
def test_that_adaptive_computing_everything_equals_the_prefix_cache(kind: str) -> None:
    refiner, prefill, tokens = case(kind)
    exact, adaptive = prefill(Caching("prefix")), prefill(Caching("adaptive", 1.0))
    for row in tokens:
        expected = refiner.denoise(row, exact)
        torch.testing.assert_close(refiner.denoise(row, adaptive), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["unified", "14"])
def test_that_unchanged_tokens_give_unchanged_logits(kind: str) -> None:
    refiner, prefill, tokens = case(kind)
    cache = prefill(Caching("adaptive", 0.3, refresh_interval=100))
    first = refiner.denoise(tokens[0], cache)
    for _ in range(3):
        torch.testing.assert_close(refiner.denoise(tokens[0], cache), first, atol=1e-5, rtol=0)


def test_that_with_a_batch_each_sample_is_as_it_is_alone() -> None:
    refiner, prefill, tokens = case("unified", batch=2)
    caching = Caching("adaptive", 0.5, refresh_interval=100)
    together = prefill(caching)
    ids = prefix_ids(2)
    alone = [refiner.prefill(ids[i : i + 1], caching) for i in range(2)]
    for row in tokens[:6]:
        both = refiner.denoise(row, together)
        for i, cache in enumerate(alone):
            # At most half of the tokens change, so both compute half of the positions.
            single = refiner.denoise(row[i : i + 1], cache)
            torch.testing.assert_close(both[i : i + 1], single, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["unified", "14"])
def test_that_errors_shrink_as_more_is_computed_and_vanish_on_a_full_refresh(kind: str) -> None:
    refiner, prefill, tokens = case(kind)
    exact = prefill(Caching("prefix"))
    expected = [refiner.denoise(row, exact) for row in tokens]
    errors = {}
    for ratio in (0.1, 0.5, 0.85):
        cache = prefill(Caching("adaptive", ratio, refresh_interval=5))
        found = [refiner.denoise(row, cache) for row in tokens]
        difference = [float((a - b).abs().mean()) for a, b in zip(found, expected, strict=True)]
        assert max(difference[0::5]) < 1e-5  # evaluations 0, 5, 10, 15
        errors[ratio] = sum(difference)
    assert errors[0.1] > errors[0.5] > errors[0.85] > 0


def test_that_validation_computes_everything() -> None:
    refiner, _, tokens = case("unified")
    ids = prefix_ids(1)
    exact = refiner.prefill(ids)
    cache = refiner.prefill(ids, Caching("adaptive", 0.1, refresh_interval=100), 14)
    for number, row in enumerate(tokens):
        error = (refiner.denoise(row, cache) - refiner.denoise(row, exact)).abs().max()
        assert (error < 1e-5) == (number in (0, 14, 15)), number


def test_that_changed_tokens_are_always_computed() -> None:
    refiner, prefill, tokens = case("unified")
    changed = tokens[0].clone()
    changed[:, 3:12] = (changed[:, 3:12] + 11) % ACTIONS
    cache = prefill(Caching("adaptive", 0.05, refresh_interval=100))
    refiner.denoise(tokens[0], cache)
    before = [kept.clone() for kept in cache.kept.values]
    refiner.denoise(changed, cache)
    for kept, old in zip(cache.kept.values, before, strict=True):
        moved = (kept != old).any(-1)[0]
        assert moved[1:][3:12].all()  # position 0 of the block is the border with the prefix
        assert moved.sum() == 9


def test_that_chunks_of_one_network_do_not_meet() -> None:
    refiner, prefill, tokens = case("unified")
    caching = Caching("adaptive", 0.3)
    alone = prefill(caching)
    expected = [refiner.denoise(row, alone) for row in tokens]
    one, two = prefill(caching), prefill(caching)
    for number, row in enumerate(tokens):
        assert torch.equal(refiner.denoise(row, one), expected[number])
        refiner.denoise(tokens[-1 - number], two)


def test_that_masked_diffusion_goes_through_the_adaptive_cache() -> None:
    refiner, prefill, _ = case("unified", batch=2)
    decoder = Masked(MaskedPath(ACTIONS))

    def decode(caching: Caching) -> torch.Tensor:
        return decoder(
            lambda tokens, t, cache: refiner.denoise(tokens, cache), (2, TOKENS), prefill(caching)
        ).tokens

    exact = decode(Caching("prefix"))
    assert torch.equal(decode(Caching("adaptive", 1.0)), exact)
    assert (decode(Caching("adaptive", 0.5)) == exact).float().mean() > 0.4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "on"}, "mode is 'on'; choose one of off, prefix, adaptive"),
        ({"ratio": 0.0}, r"ratio is 0.0; give a share in \(0, 1\]"),
        ({"threshold": 2.0}, r"threshold is 2.0; give a similarity in \(-1, 1\]"),
        ({"refresh_interval": 0}, "refresh_interval is 0; give 1 or more"),
    ],
)
def test_that_settings_that_make_no_sense_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(CachingError, match=message):
        Caching(**settings)
