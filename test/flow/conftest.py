"""A joint distribution of three tokens that is small enough to know everything about it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dfm_vla_ros.flow import Path, Prediction

K, N = 8, 3


class EnumerableJoint:
    """p(x_1) over K^N states, strongly correlated, and its exact posterior under any path."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        logits = 1.5 * torch.randn((K,) * N, generator=generator, dtype=torch.float64)
        self.prob = torch.softmax(logits.flatten(), 0)
        self.states = torch.tensor(list(itertools.product(range(K), repeat=N)))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return (count, N) exact samples."""
        return self.states[torch.multinomial(self.prob, count, True, generator=generator)]

    def total_variation(self, samples: Tensor) -> float:
        """Return the total variation between the samples' histogram and the truth."""
        counts = torch.bincount(index(samples, K), minlength=K**N).double()
        return 0.5 * float((counts / len(samples) - self.prob).abs().sum())

    def product_of_marginals(self) -> Tensor:
        """Return the best factorised distribution, (K^N,)."""
        cube = self.prob.view((K,) * N)
        first, second, third = cube.sum((1, 2)), cube.sum((0, 2)), cube.sum((0, 1))
        return torch.einsum("i,j,k->ijk", first, second, third).flatten()

    def posterior(self, path: Path, t: Tensor) -> Tensor:
        """Return P(x_1^i = y | x_t) for every state x_t, (states of x_t, N, K), by Bayes' rule."""
        single = torch.arange(K).unsqueeze(-1)
        density = path.log_prob(single, t.expand(K)).squeeze(1).double().exp()  # (K, K')
        wide = density.shape[-1]
        joint = self.prob.view((K,) * N)
        # (x_t, y): sum over the other two tokens of p(x_1) p(x_t | x_1).
        by_token = [
            torch.einsum("abc,ax,by,cz->xyza", joint, density, density, density),
            torch.einsum("abc,ax,by,cz->xyzb", joint, density, density, density),
            torch.einsum("abc,ax,by,cz->xyzc", joint, density, density, density),
        ]
        table = torch.stack(by_token, -2).reshape(wide**N, N, K)
        # A state of x_t that cannot occur has no posterior; any will do.
        return table.clamp_min(1e-300) / table.clamp_min(1e-300).sum(-1, keepdim=True)

    def denoiser(self, path: Path) -> Callable[[Tensor, Tensor, Any], Tensor]:
        """Return the exact denoiser."""

        def denoise(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
            table = self.posterior(path, t[:1])
            logits = table.log().clamp_min(-100.0).float()
            return logits[index(tokens, round(len(table) ** (1 / N)))]

        return denoise

    def head(self, path: Path) -> Callable[[Tensor, Tensor, Any], Prediction]:
        """Return the head's optimum: lambda = w_t P(x_1 != x_t | x_t), Q the posterior."""
        exact = self.denoiser(path)

        def denoise(tokens: Tensor, t: Tensor, prefix: Any) -> Prediction:
            logits = exact(tokens, t, prefix)
            stay = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).exp()
            return Prediction(logits, path.schedule.hazard(t).unsqueeze(-1) * (1.0 - stay))

        return denoise


def index(tokens: Tensor, base: int) -> Tensor:
    """Return the number of each state, (B, N) -> (B,)."""
    powers = torch.tensor([base**power for power in reversed(range(tokens.shape[1]))])
    return (tokens * powers).sum(-1)


@pytest.fixture(scope="session")
def joint() -> EnumerableJoint:
    return EnumerableJoint()


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
