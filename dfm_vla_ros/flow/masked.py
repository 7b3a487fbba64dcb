"""Masked (absorbing) discrete diffusion: the path and its two decoders.

The source is one extra token MASK = K; a denoiser takes tokens 0..K and gives logits over
0..K-1. A committed token stays for good in `Masked` (MaskGIT, arXiv 2202.04200); `Remasked`
(ReMDM, arXiv 2503.00307) may mask it again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor

from dfm_vla_ros.flow.choice import Choice, check_choice, choose, confidence
from dfm_vla_ros.flow.decoding import Advance, Decoder, Sharpening, Start, Step, renoise
from dfm_vla_ros.flow.errors import FlowError
from dfm_vla_ros.flow.noise import Draw, Noise
from dfm_vla_ros.flow.paths import CPU, Path, broadcast_time, check_tokens
from dfm_vla_ros.flow.schedules import CosineSchedule, MixtureSchedule
from dfm_vla_ros.flow.types import Committed, Prediction


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


@dataclass(frozen=True)
class MaskedConfig(Sharpening):
    """How to unmask.

    Attributes:
        steps: Network evaluations, > 0.
        choice: How a token is taken from its posterior.
        order: ``confidence`` unmasks the likeliest first, ``random`` any (with one token a
            step, sampled, and an exact posterior this is an exact sampler).
        confidence_noise: Gumbel noise on the log-confidence, scaled down to 0 by the last
            step; without it sampled sequences lack diversity.
        temperature: Divides the logits, > 0.
        top_k: Only the k likeliest tokens are considered, None for all.
    """

    steps: int = 16
    choice: Choice = "argmax"
    order: Literal["confidence", "random"] = "confidence"
    confidence_noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("choice", self.choice)
        if self.steps < 1:
            raise FlowError(f"steps is {self.steps}; give at least 1")
        if self.order not in ("confidence", "random"):
            raise FlowError(f"order is {self.order!r}; choose confidence or random")
        if not (math.isfinite(self.confidence_noise) and self.confidence_noise >= 0.0):
            raise FlowError(f"confidence_noise is {self.confidence_noise}; give 0 or more")


class Masked(Decoder):
    """Predict all masked tokens, keep the most confident; a kept token stays.

    After step k of T a fraction 1 - kappa(k / T) of the free positions is masked; with the
    cosine schedule that is cos(pi k / 2T).

    Args:
        path: What the denoiser was trained on.
        config: How to unmask.
    """

    def __init__(self, path: MaskedPath, config: MaskedConfig | None = None) -> None:
        self.config = config or MaskedConfig()
        super().__init__(path, self.config)
        check_median(path, self.config.choice)
        kappas = [path.kappa(k / self.config.steps) for k in range(self.config.steps)]
        self.steps = [
            Step("unmasking", k / self.config.steps, 1.0 / self.config.steps, (kappa, following))
            for k, (kappa, following) in enumerate(zip(kappas, [*kappas[1:], 1.0], strict=True))
        ]

    def begin(
        self, shape: tuple[int, int], noise: Noise, start: Start | None, fixed: Committed | None
    ) -> tuple[Tensor, list[Step]]:
        """Return MASK everywhere, or the start masked to its t0, and the steps left."""
        draw = noise.draw()
        if start is None:
            return self.path.source_tokens(draw.target), self.steps
        # At least one step, so that nothing stays masked.
        later = [step for step in self.steps if step.t >= start[1]] or self.steps[-1:]
        return renoise(self.path, start, shape, draw), later

    def advance(self, tokens: Tensor, prediction: Prediction, step: Step, draw: Draw) -> Advance:
        """Unmask as many as the schedule says; see `Decoder.advance`."""
        masked = tokens == self.path.mask_token
        target = choose(prediction.logits, self.config.choice, draw.target)
        score = self._score(prediction.logits, target, step, draw.place)
        kappa, following = step.moment
        # Of those masked now, the share that the schedule still masks afterwards.
        left = masked.sum(-1, keepdim=True) * ((1.0 - following) / (1.0 - kappa))
        keep = masked.sum(-1, keepdim=True) - left.round()
        rank = score.masked_fill(~masked, -math.inf).argsort(-1, descending=True).argsort(-1)
        return Advance(target.where(masked & (rank < keep), tokens), target)

    def _score(self, logits: Tensor, target: Tensor, step: Step, uniform: Tensor) -> Tensor:
        if self.config.order == "random":
            return uniform
        score = confidence(logits, target)
        if not self.config.confidence_noise:
            return score
        # 1 lies in the uniform's range and would make the Gumbel infinite: pull it in.
        gumbel = -torch.log(-torch.log(uniform * (1.0 - 1e-6)))
        return score.log() + self.config.confidence_noise * (1.0 - step.t - step.h) * gumbel


@dataclass(frozen=True)
class RemaskedConfig(Sharpening):
    """How to unmask and mask again.

    Attributes:
        steps: Network evaluations, > 0.
        choice: How a token is taken from its posterior.
        eta: Share in [0, 1] of the largest probability of re-masking that keeps the path's
            marginals; 0 is plain ancestral sampling.
        cap: Bound in [0, 1] on the probability of re-masking in one step.
        temperature: Divides the logits, > 0.
        top_k: Only the k likeliest tokens are considered, None for all.
    """

    steps: int = 16
    choice: Choice = "sample"
    eta: float = 0.5
    cap: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("choice", self.choice)
        if self.steps < 1:
            raise FlowError(f"steps is {self.steps}; give at least 1")
        for name in ("eta", "cap"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise FlowError(f"{name} is {getattr(self, name)}; give a share in [0, 1]")


class Remasked(Decoder):
    """Ancestral sampling of masked diffusion with re-masking (ReMDM).

    From t to s > t, with ``sigma = min(cap, eta sigma_max)`` and
    ``sigma_max = min(1, (1 - kappa_s) / kappa_t)``: a token becomes MASK with probability
    sigma; a MASK becomes a token with probability
    ``(kappa_s - (1 - sigma) kappa_t) / (1 - kappa_t)``. Marginals are those of the path.

    Args:
        path: What the denoiser was trained on.
        config: How to re-mask.
    """

    def __init__(self, path: MaskedPath, config: RemaskedConfig | None = None) -> None:
        self.config = config or RemaskedConfig()
        super().__init__(path, self.config)
        check_median(path, self.config.choice)
        grid = [k / self.config.steps for k in range(self.config.steps + 1)]
        self.steps = self._steps(grid)

    def begin(
        self, shape: tuple[int, int], noise: Noise, start: Start | None, fixed: Committed | None
    ) -> tuple[Tensor, list[Step]]:
        """Return MASK everywhere, or the start masked to its t0, and the steps left."""
        draw = noise.draw()
        if start is None:
            return self.path.source_tokens(draw.target), self.steps
        t0 = float(start[1])
        later = [k / self.config.steps for k in range(self.config.steps + 1)]
        steps = self._steps([t0, *(time for time in later if time > t0)])
        return renoise(self.path, start, shape, draw), steps or self.steps[-1:]

    def advance(self, tokens: Tensor, prediction: Prediction, step: Step, draw: Draw) -> Advance:
        """Unmask and re-mask each position on its own; see `Decoder.advance`."""
        unmask, remask = step.moment
        masked = tokens == self.path.mask_token
        target = choose(prediction.logits, self.config.choice, draw.target)
        revealed = target.where(draw.place <= unmask, self.path.mask_token)
        kept = tokens.masked_fill(draw.place <= remask, self.path.mask_token)
        return Advance(torch.where(masked, revealed, kept), target)

    def _steps(self, grid: list[float]) -> list[Step]:
        kappas = [self.path.kappa(t) for t in grid]
        return [
            Step("re-masking", grid[k], grid[k + 1] - grid[k], self._chances(*kappas[k : k + 2]))
            for k in range(len(grid) - 1)
        ]

    def _chances(self, kappa: float, following: float) -> tuple[float, float]:
        """Return the probabilities of unmasking and of re-masking."""
        if following >= 1.0 - 1e-12:
            return 1.0, 0.0
        largest = 1.0 if kappa == 0.0 else min(1.0, (1.0 - following) / kappa)
        sigma = min(self.config.cap, self.config.eta * largest)
        return (following - (1.0 - sigma) * kappa) / (1.0 - kappa), sigma


def check_median(path: Path, choice: Choice) -> None:
    """Raise `FlowError` if a median is asked of tokens that have no order."""
    if choice == "median" and not path.ordered:
        raise FlowError("choice 'median' needs ordered tokens; use 'argmax' or 'sample'")
