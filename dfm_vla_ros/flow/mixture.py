"""Mixture paths (arXiv 2402.04997, 2407.15595): each token is still noise or already data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from dfm_vla_ros.flow.errors import FlowError
from dfm_vla_ros.flow.noise import Draw
from dfm_vla_ros.flow.path import CPU, Path, broadcast_time, check_tokens
from dfm_vla_ros.flow.schedules import CosineSchedule, LinearSchedule, MixtureSchedule


@dataclass(frozen=True)
class MixturePath(Path):
    """Mixture path: ``x_t = x_1`` with probability kappa_t, else uniform noise.

    ``u_t(y, x | x_1) = w_t 1[y = x_1] 1[x != x_1]``, ``w_t = kappa'_t / (1 - kappa_t)``.

    Args:
        vocabulary: K.
        schedule: kappa_t.
        ordered: Whether token ids are in numeric order.
        sizes: (N,) int64 vocabularies where some positions have fewer than K tokens.
        device: Where solvers run.
    """

    vocabulary: int
    schedule: MixtureSchedule = field(default_factory=LinearSchedule)
    ordered: bool = True
    sizes: Tensor | None = None
    device: torch.device = CPU

    def __post_init__(self) -> None:
        if self.vocabulary < 2:
            raise FlowError(f"vocabulary is {self.vocabulary}; a path needs at least 2 tokens")
        sizes = self.sizes
        if sizes is not None and not bool(((sizes >= 2) & (sizes <= self.vocabulary)).all()):
            raise FlowError(f"sizes {sizes.tolist()} must lie in 2..{self.vocabulary}")
        object.__setattr__(self, "positions", None if sizes is None else len(sizes))

    def to(self, device: torch.device | str) -> Self:
        """Return this path for tokens on ``device``."""
        sizes = None if self.sizes is None else self.sizes.to(device)
        return replace(self, sizes=sizes, device=torch.device(device))

    def log_prob(self, x1: Tensor, t: Tensor) -> Tensor:
        """Return log(kappa_t 1[x = x_1] + (1 - kappa_t) / K), (B, N, K)."""
        check_tokens(x1, self)
        t = broadcast_time(t, x1)
        kappa = self.schedule.kappa(t)
        sizes = self.vocabulary if self.sizes is None else self.sizes.unsqueeze(-1)
        noise = ((1.0 - kappa) / sizes).expand(*x1.shape, self.vocabulary)
        prob = noise.scatter_add(-1, x1.unsqueeze(-1), kappa.expand(*x1.shape, 1))
        outside = self.outside()
        return (prob if outside is None else prob.masked_fill(outside, 0.0)).log()

    def rates(self, x: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """Return w_t 1[y = x_1] 1[x != x_1], (B, N, K)."""
        check_tokens(x1, self)
        hazard = self.schedule.hazard(broadcast_time(t, x1)) * (x != x1).unsqueeze(-1)
        rates = hazard.new_zeros((*x1.shape, self.vocabulary))
        return rates.scatter_(-1, x1.unsqueeze(-1), hazard)

    def corrupt(self, x1: Tensor, t: Tensor, uniforms: Sequence[Tensor]) -> Tensor:
        """Return x_1 with probability kappa_t, else a uniform token, (B, N)."""
        check_tokens(x1, self)
        kappa = self.schedule.kappa(broadcast_time(t, x1)).squeeze(-1)
        return torch.where(uniforms[0] <= kappa, x1, self.source_tokens(uniforms[1]))

    def moment(self, t: float) -> float:
        """Return w_t."""
        return float(self.schedule.hazard(torch.tensor(t, dtype=torch.float64)))

    def move(
        self, x: Tensor, x1: Tensor, moment: float, h: float, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """Jump to x_1 at the rate w_t where x differs from it; see `Path.move`."""
        rates = (x != x1) * moment
        return torch.where(draw.clock < rates * h, x1, x), rates


@dataclass(frozen=True)
class MaskedPath(Path):
    """Mixture path from MASK: ``x_t = x_1`` with probability kappa_t, else MASK.

    Densities and rates have K + 1 entries, the last for MASK.

    Args:
        vocabulary: K.
        schedule: kappa_t.
        ordered: Whether token ids are in numeric order.
        sizes: (N,) int64 vocabularies where some positions have fewer than K tokens.
        device: Where decoders run.
    """

    vocabulary: int
    schedule: MixtureSchedule = field(default_factory=CosineSchedule)
    ordered: bool = True
    sizes: Tensor | None = None
    device: torch.device = CPU

    def __post_init__(self) -> None:
        if self.vocabulary < 2:
            raise FlowError(f"vocabulary is {self.vocabulary}; a path needs at least 2 tokens")
        object.__setattr__(self, "positions", None if self.sizes is None else len(self.sizes))

    @property
    def mask_token(self) -> int:
        """The id of MASK, K."""
        return self.vocabulary

    def to(self, device: torch.device | str) -> Self:
        """Return this path for tokens on ``device``."""
        sizes = None if self.sizes is None else self.sizes.to(device)
        return replace(self, sizes=sizes, device=torch.device(device))

    def source_tokens(self, uniform: Tensor) -> Tensor:
        """Return MASK everywhere, (B, N)."""
        return torch.full_like(uniform, self.mask_token, dtype=torch.int64)

    def log_prob(self, x1: Tensor, t: Tensor) -> Tensor:
        """Return log kappa_t at x_1 and log(1 - kappa_t) at MASK, (B, N, K + 1)."""
        check_tokens(x1, self)
        kappa = self.schedule.kappa(broadcast_time(t, x1)).expand(*x1.shape, 1)
        prob = kappa.new_zeros((*x1.shape, self.vocabulary + 1))
        prob[..., -1:] = 1.0 - kappa
        return prob.scatter_(-1, x1.unsqueeze(-1), kappa).log()

    def rates(self, x: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """Return w_t 1[y = x_1] 1[x = MASK], (B, N, K + 1)."""
        check_tokens(x1, self)
        masked = (x == self.mask_token).unsqueeze(-1)
        hazard = self.schedule.hazard(broadcast_time(t, x1)) * masked
        rates = hazard.new_zeros((*x1.shape, self.vocabulary + 1))
        return rates.scatter_(-1, x1.unsqueeze(-1), hazard)

    def corrupt(self, x1: Tensor, t: Tensor, uniforms: Sequence[Tensor]) -> Tensor:
        """Return x_1 with probability kappa_t, else MASK, (B, N)."""
        check_tokens(x1, self)
        kappa = self.schedule.kappa(broadcast_time(t, x1)).squeeze(-1)
        return x1.where(uniforms[0] <= kappa, self.mask_token)

    def kappa(self, t: float) -> float:
        """Return kappa_t, the share of tokens that are not MASK."""
        return float(self.schedule.kappa(torch.tensor(t, dtype=torch.float64)))

    def moment(self, t: float) -> float:
        """Return w_t."""
        return float(self.schedule.hazard(torch.tensor(t, dtype=torch.float64)))

    def move(
        self, x: Tensor, x1: Tensor, moment: float, h: float, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """Unmask at the rate w_t; see `Path.move`."""
        rates = (x == self.mask_token) * moment
        return torch.where(draw.clock < rates * h, x1, x), rates
