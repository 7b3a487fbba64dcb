"""The rate loss of the velocity head: where its optimum lies and what a network makes of it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dfm_vla_ros.flow import (
    CosineSchedule,
    LinearSchedule,
    MixturePath,
    Prediction,
    Solver,
    SolverConfig,
    cross_entropy,
    head_log_rates,
    head_rate_loss,
)
from dfm_vla_ros.flow.losses import replacement_log_probs

K, N = 8, 3


@pytest.mark.parametrize("schedule", [LinearSchedule(), CosineSchedule()], ids=str)
@pytest.mark.parametrize(("xt", "t"), [((1, 4, 7), 0.3), ((0, 0, 2), 0.8)])
def test_that_the_head_loss_is_least_at_the_hazard_times_the_posterior(
    joint: Any, schedule: Any, xt: tuple[int, ...], t: float
) -> None:
    path, time = MixturePath(K, schedule), torch.tensor([t])
    at = torch.tensor([xt])
    # p(x_1 | x_t) over all 512 states, by Bayes' rule on the path's density.
    density = path.log_prob(joint.states, time.expand(len(joint.states)))
    likelihood = density.gather(-1, at.expand(len(joint.states), N).unsqueeze(-1)).sum((1, 2))
    weights = torch.softmax(joint.prob.log() + likelihood, 0).float()
    logits = torch.zeros(1, N, K, requires_grad=True)
    log_rates = torch.zeros(1, N, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [logits, log_rates], max_iter=200, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def expected_loss() -> Tensor:
        optimiser.zero_grad()
        rows = len(joint.states)
        loss = head_rate_loss(
            logits.expand(rows, N, K),
            log_rates.expand(rows, N),
            at.expand(rows, N),
            joint.states,
            time.expand(rows),
            schedule,
            weights=weights.unsqueeze(-1).expand(rows, N),
        )
        loss.backward()
        return loss

    optimiser.step(expected_loss)
    found = log_rates.exp().unsqueeze(-1) * replacement_log_probs(logits, at).exp()
    is_token = torch.nn.functional.one_hot(joint.states, K).double()
    posterior = torch.einsum("s,sny->ny", weights.double(), is_token)
    optimum = (schedule.hazard(time) * posterior).float().scatter(-1, at.T, 0.0)
    torch.testing.assert_close(found[0].detach(), optimum, atol=2e-3, rtol=5e-3)


class Network(nn.Module):
    """(tokens, t) -> logits and the head's raw rates."""

    def __init__(self, width: int = 384) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(N * K + 3, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, N * K + N),
        )

    def forward(self, tokens: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        time = torch.stack([t, (4 * t).sin(), -(1.001 - t).log()], -1)
        features = nn.functional.one_hot(tokens, K).float().flatten(1)
        logits, raw = self.body(torch.cat([features, time], -1)).split([N * K, N], -1)
        return logits.view(-1, N, K), raw


def train(joint: Any, path: MixturePath, steps: int) -> Network:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = Network()
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        x1 = joint.draw(2048, generator)
        t = torch.rand(len(x1), generator=generator).clamp(max=0.999)
        xt = path.sample(x1, t, generator)
        logits, raw = network(xt, t)
        log_rates = head_log_rates(raw, t, path.schedule)
        # 1 / w_t evens out the rate loss, which else is all about t near 1.
        evened = (1.0 / path.schedule.hazard(t)).unsqueeze(-1).expand(-1, N)
        rates = head_rate_loss(logits, log_rates, xt, x1, t, path.schedule, weights=evened)
        loss = rates + cross_entropy(logits, x1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    return network


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_that_a_small_network_trained_with_the_head_loss_samples_the_joint(joint: Any) -> None:
    path, count = MixturePath(K), 200_000
    network = train(joint, path, 3000)

    def denoise(tokens: Tensor, t: Tensor, prefix: Any) -> Prediction:
        # The network on each of the 512 possible inputs once, then a lookup.
        logits, raw = network(joint.states, t[:1].expand(len(joint.states)))
        rates = head_log_rates(raw, t[:1].expand(len(raw)), path.schedule).exp()
        row = (tokens * torch.tensor([64, 8, 1])).sum(-1)
        return Prediction(logits[row], rates[row])

    solver = Solver(path, SolverConfig(128, 0, target="sample"))
    generator = torch.Generator().manual_seed(2)
    shown = joint.total_variation(solver(denoise, (count, N), generators=generator).tokens)
    floor = joint.total_variation(joint.draw(count, torch.Generator().manual_seed(1)))
    print(f"trained head {shown:.4f}, exact sampler {floor:.4f}")
    assert shown < floor + 0.05
