"""What discrete flow matching has to beat, on the solver's interface.

Autoregressive and one-step decoding are here, masked diffusion and its re-masking variant in
`flow.masked`; all are re-exported here. Every decoder counts its network evaluations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.flow.decoding import Advance, Decoder, Sharpening, Start, Step, renoise
from dfm_vla_ros.flow.paths import MaskedPath, Path
from dfm_vla_ros.flow.sampling import (
    ORDERED,
    Choice,
    Draw,
    Noise,
    check_choice,
    choose,
    confidence,
)
from dfm_vla_ros.flow.types import Committed, Denoiser, Prediction


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


@dataclass(frozen=True)
class OneStepConfig(Sharpening):
    """How the one answer is taken.

    Attributes:
        choice: How a token is taken from its posterior.
        temperature: Divides the logits, > 0.
        top_k: Only the k likeliest tokens are considered, None for all.
    """

    choice: Choice = "argmax"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("choice", self.choice)


class OneStep(Decoder):
    """All tokens at once from the path's source (noise or MASK): one evaluation at t = 0.

    Positions are independent given the prefix, so a correlated distribution comes out wrong.

    Args:
        path: What the denoiser was trained on.
        config: How to choose.
    """

    def __init__(self, path: Path, config: OneStepConfig | None = None) -> None:
        self.config = config or OneStepConfig()
        super().__init__(path, self.config)
        check_ordered(path, self.config.choice)

    def begin(
        self, shape: tuple[int, int], noise: Noise, start: Start | None, fixed: Committed | None
    ) -> tuple[Tensor, list[Step]]:
        """Return the source and the only step."""
        refuse_start(start)
        return self.path.source_tokens(noise.draw().target), [Step("one step", 0.0, 1.0)]

    def advance(self, tokens: Tensor, prediction: Prediction, step: Step, draw: Draw) -> Advance:
        """Set every token; see `Decoder.advance`."""
        target = choose(prediction.logits, self.config.choice, draw.target)
        return Advance(target, target)


@runtime_checkable
class IncrementalDenoiser(Protocol):
    """A causal denoiser with a key-value cache."""

    def next_logits(self, tokens: Tensor, first: int, count: int, prefix: Any) -> Tensor:
        """Return logits (B, count, K) of positions first..first + count - 1.

        Calls come with ``first`` rising from 0; tokens (B, N) hold the answer before ``first``.
        """
        ...


@dataclass(frozen=True)
class AutoregressiveConfig(Sharpening):
    """How to go from left to right.

    Attributes:
        choice: How a token is taken from its posterior; argmax is greedy.
        group: Positions decoded together an evaluation, independent given those before.
        temperature: Divides the logits, > 0.
        top_k: Only the k likeliest tokens are considered, None for all.
    """

    choice: Choice = "argmax"
    group: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("choice", self.choice)
        if self.group < 1:
            raise FlowError(f"group is {self.group}; decode at least 1 position at a time")


class Autoregressive(Decoder):
    """Left to right, ceil(N / group) evaluations.

    The denoiser's logits of a position may depend on the tokens of earlier groups alone; those
    not decoded yet hold 0. An `IncrementalDenoiser` is asked for the group's logits only.
    Groups of committed positions are skipped and cost nothing.

    Args:
        path: Fixes the vocabulary; no noise of it is used.
        config: How to choose.
    """

    def __init__(self, path: Path, config: AutoregressiveConfig | None = None) -> None:
        self.config = config or AutoregressiveConfig()
        super().__init__(path, self.config)
        check_ordered(path, self.config.choice)

    def begin(
        self, shape: tuple[int, int], noise: Noise, start: Start | None, fixed: Committed | None
    ) -> tuple[Tensor, list[Step]]:
        """Return zeros and a step for each group that is not committed."""
        refuse_start(start)
        tokens = torch.zeros(shape, dtype=torch.int64, device=self.path.device)
        bounds = [
            (first, min(first + self.config.group, shape[1]))
            for first in range(0, shape[1], self.config.group)
        ]
        if fixed is not None:
            bounds = [span for span in bounds if not bool(fixed.mask[:, slice(*span)].all())]
        return tokens, [
            Step("autoregression", first / shape[1], 0.0, (first, last)) for first, last in bounds
        ]

    def ask(
        self, denoiser: Denoiser, tokens: Tensor, step: Step, t: Tensor, prefix: Any
    ) -> Prediction:
        """Return the prediction; from a cached denoiser the group's alone, uniform elsewhere."""
        if not isinstance(denoiser, IncrementalDenoiser):
            return super().ask(denoiser, tokens, step, t, prefix)
        first, last = step.moment
        logits = denoiser.next_logits(tokens, first, last - first, prefix)
        whole = logits.new_zeros((*tokens.shape, self.path.vocabulary))
        whole[:, first:last] = logits
        return Prediction(self.sharpen(whole))

    def advance(self, tokens: Tensor, prediction: Prediction, step: Step, draw: Draw) -> Advance:
        """Set the group's tokens; see `Decoder.advance`."""
        first, last = step.moment
        target = choose(prediction.logits, self.config.choice, draw.target)
        decoded = tokens.clone()
        decoded[:, first:last] = target[:, first:last]
        return Advance(decoded, target)


def refuse_start(start: Start | None) -> None:
    """Raise `FlowError` if a decoder that has no time is given a warm start."""
    if start is not None:
        raise FlowError("this decoder has no time to start at; warm starts need a flow or masks")
