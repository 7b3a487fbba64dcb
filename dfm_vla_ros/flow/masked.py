"""The two decoders of masked (absorbing) discrete diffusion.

Their path is `MaskedPath`: the source is one extra token MASK = K; a denoiser takes tokens 0..K
and gives logits over 0..K-1. A committed token stays for good in `Masked` (MaskGIT, arXiv
2202.04200); `Remasked` (ReMDM, arXiv 2503.00307) may mask it again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dfm_vla_ros.flow.choice import ORDERED, Choice, check_choice, choose, confidence
from dfm_vla_ros.flow.decoding import Advance, Decoder, Sharpening, Start, Step, renoise
from dfm_vla_ros.flow.errors import FlowError
from dfm_vla_ros.flow.noise import Draw, Noise
from dfm_vla_ros.flow.paths import MaskedPath, Path
from dfm_vla_ros.flow.types import Committed, Prediction


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
        check_ordered(path, self.config.choice)
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
        check_ordered(path, self.config.choice)
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


def check_ordered(path: Path, choice: Choice) -> None:
    """Raise `FlowError` if a median or a mean is asked of tokens that have no order."""
    if choice in ORDERED and not path.ordered:
        raise FlowError(f"choice {choice!r} needs ordered tokens; use 'argmax' or 'sample'")
