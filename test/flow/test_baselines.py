import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dfm_vla_ros.flow import FlowError, MixturePath, PolynomialSchedule
from dfm_vla_ros.flow.baselines import (
    Autoregressive,
    AutoregressiveConfig,
    Masked,
    MaskedConfig,
    MaskedPath,
    OneStep,
    OneStepConfig,
    Remasked,
    RemaskedConfig,
)

K, N = 16, 12
UNIFORM, MASKED = MixturePath(K), MaskedPath(K)
ANSWER = torch.tensor([[3, 0, 15, 7, 7, 1, 4, 4, 9, 2, 14, 8]])
DECODERS = {
    "autoregressive": Autoregressive(UNIFORM),
    "one step": OneStep(MASKED),
    "masked": Masked(MASKED, MaskedConfig(8)),
    "masked random": Masked(MASKED, MaskedConfig(8, order="random")),
    "masked sample": Masked(MASKED, MaskedConfig(8, choice="sample", confidence_noise=2.0)),
    "remasked": Remasked(MASKED, RemaskedConfig(8)),
    "remasked capped": Remasked(MASKED, RemaskedConfig(8, eta=1.0, cap=0.1)),
}
COST = {"autoregressive": N, "one step": 1}
every_decoder = pytest.mark.parametrize("name", DECODERS)


def certain(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
    return 30.0 * torch.nn.functional.one_hot(ANSWER, K).float().expand(len(tokens), -1, -1)


def vague(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
    return 2.0 * torch.sin(tokens.unsqueeze(-1) * 0.7 + torch.arange(K) * 1.3 + t.view(-1, 1, 1))


@every_decoder
def test_that_a_certain_denoiser_is_obeyed_and_evaluations_are_counted(name: str) -> None:
    calls = []

    def counted(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
        calls.append(prefix)
        return certain(tokens, t, prefix)

    solution = DECODERS[name](counted, (3, N), "prefix", trace=True)
    assert torch.equal(solution.tokens, ANSWER.expand(3, N))
    assert solution.evaluations == len(calls) == len(solution.trace) == COST.get(name, 8)
    assert set(calls) == {"prefix"}


@every_decoder
def test_that_a_baseline_keeps_committed_positions(name: str) -> None:
    mask = torch.tensor([True, False] * (N // 2))
    tokens = torch.full((N,), 5)
    solution = DECODERS[name](certain, (2, N), committed=(mask, tokens), trace=True)
    for step in solution.trace:
        assert bool((step.tokens[:, mask] == 5).all())
    assert torch.equal(solution.tokens[:, ~mask], ANSWER[:, ~mask].expand(2, -1))


@every_decoder
def test_that_a_baselines_seed_gives_the_same_sample_at_batch_1_and_32(name: str) -> None:
    together = DECODERS[name](vague, (32, N), generators=list(range(32))).tokens
    for seed in (0, 17):
        assert torch.equal(
            DECODERS[name](vague, (1, N), generators=[seed]).tokens[0], together[seed]
        )


@every_decoder
def test_that_no_mask_is_left(name: str) -> None:
    tokens = DECODERS[name](vague, (50, N)).tokens
    assert tokens.min() >= 0
    assert tokens.max() < K


def test_that_autoregression_sees_earlier_tokens_alone_and_in_order() -> None:
    def successor(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
        previous = torch.cat([torch.full((len(tokens), 1), -1), tokens[:, :-1]], 1)
        return 30.0 * torch.nn.functional.one_hot((previous + 1) % K, K).float()

    assert Autoregressive(UNIFORM)(successor, (1, N)).tokens.tolist() == [list(range(N))]


def test_that_groups_divide_the_evaluations_of_autoregression() -> None:
    decoder = Autoregressive(UNIFORM, AutoregressiveConfig(group=5))
    solution = decoder(certain, (1, N))
    assert solution.evaluations == 3
    assert torch.equal(solution.tokens, ANSWER)


def test_that_groups_of_committed_positions_cost_autoregression_nothing() -> None:
    decoder = Autoregressive(UNIFORM, AutoregressiveConfig(group=4))
    mask = torch.arange(N) < 5
    solution = decoder(certain, (2, N), committed=(mask, torch.full((N,), 1)))
    assert solution.evaluations == 2


class Cached:
    """A causal denoiser that answers for the next positions alone."""

    def __init__(self) -> None:
        self.asked = []

    def next_logits(self, tokens: Tensor, first: int, count: int, prefix: Any) -> Tensor:
        assert torch.equal(tokens[:, :first], ANSWER[:, :first].expand(len(tokens), -1))
        self.asked.append((first, count))
        return certain(tokens, None, prefix)[:, first : first + count]


def test_that_a_cached_denoiser_is_asked_for_the_next_group_alone() -> None:
    denoiser = Cached()
    solution = Autoregressive(UNIFORM, AutoregressiveConfig(group=5))(denoiser, (2, N))
    assert denoiser.asked == [(0, 5), (5, 5), (10, 2)]
    assert torch.equal(solution.tokens, ANSWER.expand(2, N))


def test_that_masked_decoding_unmasks_the_confident_first_and_by_the_cosine() -> None:
    nats = torch.arange(N, 0, -1.0).view(1, N, 1)

    def denoise(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
        return nats * torch.nn.functional.one_hot(ANSWER, K)

    trace = Masked(MASKED, MaskedConfig(4))(denoise, (1, N), trace=True).trace
    masked = [int((step.tokens == K).sum()) for step in trace]
    # 12 cos(pi k / 8): 11.1, 8.5, 4.6, 0, each rounded from what was masked before
    assert masked == [11, 8, 4, 0]
    for step, count in zip(trace, masked, strict=True):
        assert (step.tokens[0] == K).tolist() == [False] * (N - count) + [True] * count


def test_that_a_committed_token_of_masked_decoding_stays_for_good() -> None:
    trace = Masked(MASKED, MaskedConfig(8))(vague, (20, N), trace=True).trace
    for before, after in itertools.pairwise(trace):
        kept = before.tokens != K
        assert torch.equal(after.tokens[kept], before.tokens[kept])


def test_that_re_masking_revises_tokens_and_ends_with_none_masked() -> None:
    trace = Remasked(MASKED, RemaskedConfig(16, eta=1.0))(vague, (50, N), trace=True).trace
    revised = sum(
        int(((before.tokens != K) & (after.tokens == K)).sum())
        for before, after in itertools.pairwise(trace)
    )
    assert revised > 100
    assert int((trace[-1].tokens == K).sum()) == 0


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_that_re_masking_keeps_the_share_of_masks_of_the_path(eta: float) -> None:
    path = MaskedPath(K, PolynomialSchedule(2.0))
    trace = Remasked(path, RemaskedConfig(8, eta=eta))(vague, (4000, N), trace=True).trace
    shares = [float((step.tokens == K).float().mean()) for step in trace]
    assert shares == pytest.approx([1.0 - (k / 8) ** 2 for k in range(1, 9)], abs=0.01)


def test_that_a_masked_warm_start_masks_part_of_the_start() -> None:
    decoder = Masked(MASKED, MaskedConfig(8))
    seen = []

    def denoise(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
        seen.append(tokens)
        return certain(tokens, t, prefix)

    solution = decoder(denoise, (500, N), start=(ANSWER.expand(500, N), 0.5))
    assert solution.evaluations == 4
    assert float((seen[0] == K).float().mean()) == pytest.approx(0.7071, abs=0.02)
    assert torch.equal(solution.tokens, ANSWER.expand(500, N))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MaskedConfig(0), "steps is 0; give at least 1"),
        (lambda: MaskedConfig(order="left"), "order is 'left'; choose confidence or random"),
        (lambda: MaskedConfig(confidence_noise=-1.0), "confidence_noise is -1.0; give 0 or more"),
        (lambda: RemaskedConfig(steps=0), "steps is 0; give at least 1"),
        (lambda: RemaskedConfig(eta=1.5), r"eta is 1.5; give a share in \[0, 1\]"),
        (lambda: AutoregressiveConfig(group=0), "group is 0; decode at least 1 position"),
        (lambda: OneStepConfig("mode"), "choice is 'mode'; choose one of"),
        (lambda: MaskedPath(1), "vocabulary is 1; a path needs at least 2"),
        (
            lambda: Masked(MaskedPath(K, ordered=False), MaskedConfig(choice="median")),
            "choice 'median' needs ordered tokens",
        ),
        (lambda: OneStep(MASKED)(vague, (1, N), start=(ANSWER, 0.5)), "no time to start at"),
        (lambda: Autoregressive(UNIFORM)(vague, (1, N), start=(ANSWER, 0.5)), "no time to start"),
    ],
)
def test_that_what_a_baseline_cannot_do_is_refused(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(FlowError, match=message):
        call()
