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
from typing import Any

import torch
from torch import Tensor

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.flow.decoding import Advance, Decoder, Sharpening, Start, Step, renoise
from dfm_vla_ros.flow.paths import MixturePath, Path
from dfm_vla_ros.flow.sampling import ORDERED, Choice, Draw, Noise, check_choice, choose
from dfm_vla_ros.flow.types import Committed, Denoiser, Prediction

REFINEMENT, VALIDATION = "refinement", "validation"


@dataclass(frozen=True)
class SolverConfig(Sharpening):
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
        early_stop_within: With ``early_stop``, for ordered tokens: stop as soon as no prediction
            of x_1 moved by more than so many tokens since the step before, and end with it.
            Predictions settle long before the tokens have followed them.
    """

    refinement_steps: int = 14
    validation_steps: int = 2
    target: Choice = "median"
    validation_target: Choice | None = None
    time_grid: Sequence[float] | None = None
    early_stop: bool = False
    early_stop_within: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("refinement_steps", "validation_steps"):
            if getattr(self, name) < 0:
                raise FlowError(f"{name} is {getattr(self, name)}; give 0 or more")
        if self.refinement_steps + self.validation_steps == 0:
            raise FlowError("no refinement and no validation steps; give at least one step")
        check_choice("target", self.target)
        check_choice("validation_target", self.validation)
        if self.early_stop and self.validation == "sample":
            raise FlowError("early_stop needs a validation that repeats itself, not 'sample'")
        if self.early_stop_within is not None:
            self._check_within(self.early_stop_within)
        if self.time_grid is not None:
            _check_grid(self.time_grid, self.refinement_steps)

    def _check_within(self, tokens: int) -> None:
        if tokens < 0 or not self.early_stop:
            raise FlowError(f"early_stop_within is {tokens}; give 0 or more, with early_stop")
        if self.target != self.validation:
            raise FlowError(
                "early_stop_within compares predictions; choose target and validation_target alike"
            )

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


class Solver(Decoder):
    """Decodes tokens with any denoiser along a path.

    Args:
        path: Path that the denoiser was trained on; its device is where the solver runs.
        config: How to decode.

    Raises:
        FlowError: If a median or a mean is asked of tokens that have no order.
    """

    def __init__(self, path: Path, config: SolverConfig | None = None) -> None:
        self.config = config or SolverConfig()
        super().__init__(path, self.config)
        for target in (self.config.target, self.config.validation):
            if target in ORDERED and not path.ordered:
                raise FlowError(
                    f"target {target!r} needs ordered tokens; use 'argmax' or 'sample'"
                )
        if self.config.early_stop_within is not None and not path.ordered:
            raise FlowError("early_stop_within needs ordered tokens; leave it out")
        self.steps = self._steps(self.config.refinement_grid())

    def begin(
        self, shape: tuple[int, int], noise: Noise, start: Start | None, fixed: Committed | None
    ) -> tuple[Tensor, list[Step]]:
        """Return noise and all steps, or the re-noised start and the steps after its t0."""
        draw = noise.draw()
        if start is None:
            return self.path.source_tokens(draw.target), self.steps
        t0 = float(start[1])
        later = [time for time in self.config.refinement_grid() if time > t0]
        steps = self._steps([t0, *later])
        if not steps:
            raise FlowError(f"start at t0 = {t0} leaves no step; lower t0 or add validation")
        return renoise(self.path, start, shape, draw), steps

    def ask(
        self, denoiser: Denoiser, tokens: Tensor, step: Step, t: Tensor, prefix: Any
    ) -> Prediction:
        """Return the denoiser's sharpened prediction; rates only along a mixture path."""
        prediction = super().ask(denoiser, tokens, step, t, prefix)
        if prediction.rates is not None and not isinstance(self.path, MixturePath):
            raise FlowError("a velocity head's rates belong to a MixturePath; give the solver one")
        return prediction

    def advance(self, tokens: Tensor, prediction: Prediction, step: Step, draw: Draw) -> Advance:
        """Do one step of refinement or validation; see `Decoder.advance`."""
        if step.kind == VALIDATION:
            target = choose(prediction.logits, self.config.validation, draw.target)
            return Advance(target, target)
        if prediction.rates is None:
            target = choose(prediction.logits, self.config.target, draw.target)
            moved, rates = self.path.move(tokens, target, step.moment, step.h, draw)
            return Advance(moved, target, rates)
        others = prediction.logits.scatter(-1, tokens.unsqueeze(-1), -math.inf)
        target = choose(others, self.config.target, draw.target)
        # An exponential clock rings within h with probability 1 - exp(-h lambda).
        jump = draw.clock < prediction.rates * step.h
        return Advance(torch.where(jump, target, tokens), target, prediction.rates)

    def settled(
        self,
        before: Tensor,
        target: Tensor,
        prediction: Prediction,
        fixed: Committed | None,
        previous: Tensor | None = None,
    ) -> Tensor | None:
        """Return (B, 1) bool: samples that validation leaves, or whose prediction has settled."""
        if not self.config.early_stop:
            return None
        within = self.config.early_stop_within
        if within is not None:
            if previous is None:
                return None
            same = (target - previous).abs() <= within
            return (same if fixed is None else same | fixed.mask).all(-1, keepdim=True)
        if self.config.target != self.config.validation or prediction.rates is not None:
            target = choose(prediction.logits, self.config.validation)
        same = target == before
        if fixed is not None:
            same = same | fixed.mask
        return same.all(-1, keepdim=True)

    def rest(self, before: Tensor, target: Tensor) -> Tensor:
        """Return the tokens that settled samples end with: a fixed point, or the prediction."""
        return before if self.config.early_stop_within is None else target

    def _steps(self, grid: list[float]) -> list[Step]:
        """Return the refinement steps between the grid's times, then validation."""
        refinement = [
            Step(REFINEMENT, t, following - t, self.path.moment(t))
            for t, following in itertools.pairwise(grid)
        ]
        count, last = self.config.validation_steps, grid[-1]
        times = [last + (1.0 - last) * k / count for k in range(count)]
        return refinement + [Step(VALIDATION, t) for t in times]


def _check_grid(grid: Sequence[float], steps: int) -> None:
    if len(grid) != steps + 1:
        raise FlowError(f"time_grid has {len(grid)} times; {steps} steps need {steps + 1}")
    rising = all(low < high for low, high in itertools.pairwise(grid))
    if not rising or not 0.0 <= grid[0] <= grid[-1] <= 1.0:
        raise FlowError(f"time_grid {list(grid)} must rise strictly within [0, 1]")
