"""What discrete flow matching has to beat, on the solver's interface.

Autoregressive and one-step decoding are here, masked diffusion and its re-masking variant in
`flow.masked`; all are re-exported here. Every decoder counts its network evaluations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from dfm_vla_ros.flow.choice import Choice, check_choice, choose
from dfm_vla_ros.flow.decoding import Advance, Decoder, Sharpening, Start, Step
from dfm_vla_ros.flow.errors import FlowError
from dfm_vla_ros.flow.masked import (
    Masked,
    MaskedConfig,
    Remasked,
    RemaskedConfig,
    check_ordered,
)
from dfm_vla_ros.flow.noise import Draw, Noise
from dfm_vla_ros.flow.paths import MaskedPath, Path
from dfm_vla_ros.flow.types import Committed, Denoiser, Prediction

__all__ = [
    "Autoregressive",
    "AutoregressiveConfig",
    "IncrementalDenoiser",
    "Masked",
    "MaskedConfig",
    "MaskedPath",
    "OneStep",
    "OneStepConfig",
    "Remasked",
    "RemaskedConfig",
]


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
