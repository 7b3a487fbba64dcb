import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dfm_vla_ros.flow import (
    CosineSchedule,
    FlowError,
    LinearSchedule,
    cross_entropy,
    head_log_rates,
    head_rate_loss,
    mixture_kl,
)

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
B, N, K = 4, 5, 7


@pytest.fixture
def batch(generator: torch.Generator) -> Batch:
    logits = torch.randn(B, N, K, generator=generator)
    xt, x1 = torch.randint(K, (2, B, N), generator=generator)
    t = torch.rand(B, generator=generator) * 0.9
    return logits, xt, x1, t


def test_that_cross_entropy_is_the_mean_surprise_of_the_data(batch: Batch) -> None:
    logits, _, x1, _ = batch
    prob = torch.softmax(logits, -1)
    surprises = [-math.log(prob[b, n, x1[b, n]]) for b in range(B) for n in range(N)]
    assert cross_entropy(logits, x1).item() == pytest.approx(sum(surprises) / (B * N), rel=1e-5)


def test_that_weights_make_a_weighted_mean(batch: Batch, generator: torch.Generator) -> None:
    logits, _, x1, _ = batch
    weights = torch.rand(B, N, generator=generator)
    prob = torch.softmax(logits, -1).gather(-1, x1.unsqueeze(-1)).squeeze(-1)
    expected = float(-(weights * prob.log()).sum() / weights.sum())
    assert cross_entropy(logits, x1, weights).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["ce", "head", "kl"])
def test_that_padding_has_no_part_in_a_loss_or_its_gradient(batch: Batch, loss: str) -> None:
    logits, xt, x1, t = batch
    mask = torch.arange(N).expand(B, N) < 3

    def value_of(logits: Tensor, mask: Tensor | None) -> Tensor:
        seen, data = xt[:, : logits.shape[1]], x1[:, : logits.shape[1]]
        if loss == "ce":
            return cross_entropy(logits, data, mask=mask)
        if loss == "kl":
            return mixture_kl(logits, seen, data, t, LinearSchedule(), mask=mask)
        return head_rate_loss(logits, logits[..., 0], seen, data, t, LinearSchedule(), mask=mask)

    spoiled = logits.clone()
    spoiled[:, 3:] = -40.0  # padding is a token that the network finds impossible
    spoiled[:, 3:, 0] = 40.0
    spoiled.requires_grad_()
    value = value_of(spoiled, mask)
    value.backward()
    assert value.item() == pytest.approx(value_of(logits[:, :3], None).item(), rel=1e-5)
    assert bool((spoiled.grad[:, 3:] == 0.0).all())


def test_that_a_batch_of_padding_alone_loses_nothing(batch: Batch) -> None:
    logits, _, x1, _ = batch
    assert cross_entropy(logits, x1, mask=torch.zeros(B, N, dtype=torch.bool)).item() == 0.0


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()], ids=str)
def test_that_the_generalised_kl_is_the_divergence_summed_over_all_jumps(
    batch: Batch, schedule: Any
) -> None:
    logits, xt, x1, t = batch
    xt[0, 0] = x1[0, 0]  # also a token that has already arrived
    prob, hazard = torch.softmax(logits, -1), schedule.hazard(t)
    total = 0.0
    for b in range(B):
        for n in range(N):
            for y in range(K):
                if y == xt[b, n]:
                    continue
                arrives = bool(y == x1[b, n]) and bool(xt[b, n] != x1[b, n])
                u = float(hazard[b]) if arrives else 0.0
                v = float(hazard[b] * prob[b, n, y])
                total += (u * math.log(u / v) if u else 0.0) - u + v
    loss = mixture_kl(logits, xt, x1, t, schedule)
    assert loss.item() == pytest.approx(total / (B * N), rel=1e-4)


def test_that_the_head_loss_is_the_papers_formula(batch: Batch) -> None:
    logits, xt, x1, t = batch
    xt[0, 0] = x1[0, 0]
    log_rates = torch.linspace(-1.0, 1.0, B * N).view(B, N)
    schedule, total = LinearSchedule(), 0.0
    for b in range(B):
        for n in range(N):
            rate = math.exp(log_rates[b, n])
            total += rate
            if xt[b, n] == x1[b, n]:
                continue
            others = [float(logits[b, n, y].exp()) for y in range(K) if y != xt[b, n]]
            q = float(logits[b, n, x1[b, n]].exp()) / sum(others)
            total -= (math.log(rate) + math.log(q)) / (1.0 - float(t[b]))
    loss = head_rate_loss(logits, log_rates, xt, x1, t, schedule)
    assert loss.item() == pytest.approx(total / (B * N), rel=1e-4)


def test_that_the_head_loss_has_finite_gradients_where_the_token_has_arrived(batch: Batch) -> None:
    logits, _, x1, t = batch
    logits.requires_grad_()
    log_rates = torch.zeros(B, N, requires_grad=True)
    head_rate_loss(logits, log_rates, x1, x1, t, LinearSchedule()).backward()
    assert bool(torch.isfinite(logits.grad).all())
    torch.testing.assert_close(log_rates.grad, torch.full((B, N), 1.0 / (B * N)))


def test_that_head_rates_are_the_hazard_times_a_probability() -> None:
    t = torch.tensor([0.5])
    rates = head_log_rates(torch.tensor([[-100.0, 0.0, 100.0]]), t, LinearSchedule()).exp()
    torch.testing.assert_close(rates, torch.tensor([[0.0, 1.0, 2.0]]))


def test_that_wrong_shapes_are_refused(batch: Batch) -> None:
    logits, _, x1, _ = batch
    with pytest.raises(FlowError, match=r"logits are \(4, 5, 7\) for tokens \(4, 4\)"):
        cross_entropy(logits, x1[:, :4])
    with pytest.raises(FlowError, match=r"weights are \(4,\); give \(4, 5\)"):
        cross_entropy(logits, x1, weights=torch.ones(4))
