"""The two-stage decoder: refinement along the path, then validation (arXiv 2603.26320).

    x ~ Uniform(V)^N;   t_k on a grid from 0 to 1;   h_k = t_(k+1) - t_k
    refinement:  x1hat from p(. | x, prefix);   lambda = sum_{y != x} u_t(y, x | x1hat);
                 with probability 1 - exp(-h lambda) jump to y ~ u_t(., x | x1hat) / lambda
    validation:  x <- the choice (argmax, median) from p(. | x, prefix)

x = x1hat has lambda = 0 and stays. With a velocity head, lambda and the destination come from
the network: u(y | x) = lambda Q(y), Q with x itself masked out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dfm_vla_ros.flow.choice import (
    Choice,
    check_choice,
    check_sharpening,
    choose,
    confidence,
    sharpen,
)
from dfm_vla_ros.flow.errors import FlowError
from dfm_vla_ros.flow.noise import Generators, Noise
from dfm_vla_ros.flow.paths import MixturePath, Path, check_tokens
from dfm_vla_ros.flow.types import (
    Committed,
    Denoiser,
    Prediction,
    Solution,
    TraceStep,
    as_prediction,
    committed_positions,
)


@dataclass(frozen=True)
class SolverConfig:
    """How to decode.

    Attributes:
        refinement_steps: Steps along the path, >= 0.
        validation_steps: Closing steps that set every token, >= 0.
        target: How x1hat is taken from the posterior: ``median`` for ordered tokens with one
            mode, ``sample`` to follow the path's law.
        validation_target: The same for validation; None means as ``target``, but ``argmax``
            where that is ``sample``.
        temperature: Divides the logits of both stages, > 0.
        top_k: Only the k likeliest tokens are considered, None for all.
        time_grid: Rising times t_0..t_R in [0, 1] of the refinement (R + 1 of them; validation
            spreads over what is left up to 1). None: steps of 1 / (R + V), the paper's.
        early_stop: Stop a sample as soon as validation would leave it as it is.
    """

    refinement_steps: int = 14
    validation_steps: int = 2
    target: Choice = "median"
    validation_target: Choice | None = None
    temperature: float = 1.0
    top_k: int | None = None
    time_grid: Sequence[float] | None = None
    early_stop: bool = False

    def __post_init__(self) -> None:
        for name in ("refinement_steps", "validation_steps"):
            if getattr(self, name) < 0:
                raise FlowError(f"{name} is {getattr(self, name)}; give 0 or more")
        if self.refinement_steps + self.validation_steps == 0:
            raise FlowError("no refinement and no validation steps; give at least one step")
        check_choice("target", self.target)
        check_choice("validation_target", self.validation)
        check_sharpening(self.temperature, self.top_k)
        if self.early_stop and self.validation == "sample":
            raise FlowError("early_stop needs a validation that repeats itself, not 'sample'")
        if self.time_grid is not None:
            _check_grid(self.time_grid, self.refinement_steps)

    @property
    def validation(self) -> Choice:
        """How validation chooses."""
        if self.validation_target is not None:
            return self.validation_target
        return "argmax" if self.target == "sample" else self.target

    def refinement_grid(self) -> list[float]:
        """Return the R + 1 times that bound the refinement steps."""
        if self.time_grid is not None:
            return [float(t) for t in self.time_grid]
        steps = self.refinement_steps + self.validation_steps
        return [k / steps for k in range(self.refinement_steps + 1)]


class Step(NamedTuple):
    """One evaluation of the grid.

    Attributes:
        t: Time in [0, 1].
        h: Length of the step, 0 in validation.
        coefficients: The path's at t, None in validation.
    """

    t: float
    h: float
    coefficients: tuple[float, float] | None


class Solver:
    """Decodes tokens with any denoiser along a path.

    Args:
        path: Path that the denoiser was trained on; its device is where the solver runs.
        config: How to decode.

    Raises:
        FlowError: If a median is asked of tokens that have no order.
    """

    def __init__(self, path: Path, config: SolverConfig | None = None) -> None:
        self.path, self.config = path, config or SolverConfig()
        if "median" in (self.config.target, self.config.validation) and not path.ordered:
            raise FlowError("target 'median' needs ordered tokens; use 'argmax' or 'sample'")
        self.steps = self._steps(self.config.refinement_grid())
        self._outside = path.outside()

    @torch.no_grad()
    def __call__(
        self,
        denoiser: Denoiser,
        shape: tuple[int, int],
        prefix: Any = None,
        generators: Generators = None,
        committed: tuple[Tensor, Tensor] | None = None,
        start: tuple[Tensor, float] | None = None,
        trace: bool = False,
    ) -> Solution:
        """Return decoded tokens.

        Args:
            denoiser: See `flow.types.Denoiser`.
            shape: (B, N).
            prefix: Handed to the denoiser.
            generators: None, one generator for the batch, or B seeds or generators (then a
                sample does not depend on its batch).
            committed: (mask, tokens), each (N,) or (B, N): positions that stay as they are.
            start: (tokens (B, N), t0): re-noise these to t0 and start there, not at noise.
            trace: Whether to record every step.

        Raises:
            FlowError: If an argument has a wrong shape or a token outside the vocabulary.
        """
        noise = Noise(generators, shape, self.path.device)
        fixed = committed_positions(committed, shape, self.path.device)
        if fixed is not None:
            check_tokens(torch.where(fixed.mask, fixed.tokens, 0), self.path)
        tokens, steps = self._begin(shape, noise, start)
        if fixed is not None:
            tokens = fixed.hold(tokens)
        return self._run(denoiser, tokens, prefix, noise, fixed, steps, trace)

    def _run(
        self,
        denoiser: Denoiser,
        tokens: Tensor,
        prefix: Any,
        noise: Noise,
        fixed: Committed | None,
        steps: list[Step],
        trace: bool,
    ) -> Solution:
        record: list[TraceStep] = []
        done: Tensor | None = None
        evaluations = 0
        times = torch.tensor([step.t for step in steps], device=tokens.device)
        times = times.unsqueeze(-1).expand(-1, tokens.shape[0])
        for step, t in zip(steps, times, strict=True):
            prediction = self._ask(denoiser, tokens, t, prefix)
            evaluations += 1
            before = tokens
            tokens, target, rates = self.advance(tokens, prediction, step, noise.draw())
            if fixed is not None:
                tokens = fixed.hold(tokens)
            if self.config.early_stop:
                done = self._settled(before, target, prediction, fixed, done)
                tokens = torch.where(done, before, tokens)
            if trace:
                record.append(_record(step, before, tokens, target, rates, prediction))
            if done is not None and bool(done.all()):
                break
        return Solution(tokens, evaluations, tuple(record))

    def advance(
        self, tokens: Tensor, prediction: Prediction, step: Step, uniforms: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Do one step on a prediction: no network, no synchronisation with a GPU.

        Args:
            tokens: (B, N).
            prediction: Sharpened logits (B, N, K), and rates where there is a head.
            step: One of ``steps``.
            uniforms: (3, B, N) in (0, 1].

        Returns:
            New tokens, the predicted target and the rates of leaving (None in validation).
        """
        if step.coefficients is None:
            target = choose(prediction.logits, self.config.validation, uniforms[0])
            return target, target, None
        logits = prediction.logits
        if prediction.rates is not None:
            logits = logits.scatter(-1, tokens.unsqueeze(-1), -math.inf)
        target = choose(logits, self.config.target, uniforms[0])
        if prediction.rates is not None:
            rates, destination = prediction.rates, target
        else:
            rates, destination = self.path.transition(
                tokens, target, step.coefficients, uniforms[2]
            )
        jump = uniforms[1] <= -torch.expm1(rates * -step.h)
        return torch.where(jump, destination, tokens), target, rates

    def _ask(self, denoiser: Denoiser, tokens: Tensor, t: Tensor, prefix: Any) -> Prediction:
        answer = as_prediction(denoiser(tokens, t, prefix))
        expected = (*tokens.shape, self.path.vocabulary)
        if answer.logits.shape != expected:
            raise FlowError(
                f"the denoiser gave {tuple(answer.logits.shape)}, not {expected} logits"
            )
        if answer.rates is not None and not isinstance(self.path, MixturePath):
            raise FlowError("a velocity head's rates belong to a MixturePath; give the solver one")
        logits = sharpen(answer.logits, self.config.temperature, self.config.top_k)
        if self._outside is not None:
            logits = logits.masked_fill(self._outside, -math.inf)
        return Prediction(logits, answer.rates)

    def _settled(
        self,
        before: Tensor,
        target: Tensor,
        prediction: Prediction,
        fixed: Committed | None,
        done: Tensor | None,
    ) -> Tensor:
        """Return (B, 1) bool: samples that validation leaves as they are."""
        if self.config.target != self.config.validation or prediction.rates is not None:
            target = choose(prediction.logits, self.config.validation)
        same = target == before
        if fixed is not None:
            same = same | fixed.mask
        settled = same.all(-1, keepdim=True)
        return settled if done is None else settled | done

    def _begin(
        self, shape: tuple[int, int], noise: Noise, start: tuple[Tensor, float] | None
    ) -> tuple[Tensor, list[Step]]:
        """Return the first tokens and the steps to do."""
        if self.path.positions not in (None, shape[1]):
            raise FlowError(f"{shape[1]} positions for a path of {self.path.positions}")
        uniforms = noise.draw()
        if start is None:
            return self.path.uniform_tokens(uniforms[0]), self.steps
        tokens, t0 = start
        if tokens.shape != torch.Size(shape):
            raise FlowError(f"start tokens are {tuple(tokens.shape)}, not {shape}")
        t = torch.full(shape[:1], float(t0), device=self.path.device)
        tokens = self.path.corrupt(tokens.to(self.path.device), t, uniforms)
        later = [time for time in self.config.refinement_grid() if time > t0]
        return tokens, self._steps([float(t0), *later])

    def _steps(self, grid: list[float]) -> list[Step]:
        """Return the refinement steps between the grid's times, then validation."""
        refinement = [
            Step(t, following - t, self.path.coefficients(t))
            for t, following in itertools.pairwise(grid)
        ]
        count = self.config.validation_steps
        last = grid[-1]
        times = [last + (1.0 - last) * k / count for k in range(count)]
        return refinement + [Step(t, 0.0, None) for t in times]


def _record(
    step: Step,
    before: Tensor,
    tokens: Tensor,
    target: Tensor,
    rates: Tensor | None,
    prediction: Prediction,
) -> TraceStep:
    return TraceStep(
        kind="validation" if step.coefficients is None else "refinement",
        t=step.t,
        tokens=tokens,
        target=target,
        rates=torch.zeros_like(tokens, dtype=torch.float32) if rates is None else rates,
        jumped=tokens != before,
        confidence=confidence(prediction.logits, target),
    )


def _check_grid(grid: Sequence[float], steps: int) -> None:
    if len(grid) != steps + 1:
        raise FlowError(f"time_grid has {len(grid)} times; {steps} steps need {steps + 1}")
    rising = all(low < high for low, high in itertools.pairwise(grid))
    if not rising or not 0.0 <= grid[0] <= grid[-1] <= 1.0:
        raise FlowError(f"time_grid {list(grid)} must rise strictly within [0, 1]")
