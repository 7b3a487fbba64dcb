"""What a denoiser is and what a solver returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dfm_vla_ros.errors import FlowError


@dataclass(frozen=True)
class Prediction:
    """A denoiser's answer where it has a velocity head.

    Attributes:
        logits: (B, N, K) of x_1, or of the replacement token for the head.
        rates: (B, N) replacement rates lambda >= 0 of the head, None without one.
    """

    logits: Tensor
    rates: Tensor | None = None


Denoiser = Callable[[Tensor, Tensor, Any], "Tensor | Prediction"]
"""(tokens (B, N) int64, t (B,) float32, prefix) -> logits (B, N, K) or a `Prediction`.

The prefix is whatever the denoiser takes (observations, a key-value cache); a solver hands it
on untouched.
"""


@dataclass(frozen=True)
class TraceStep:
    """What one network evaluation did.

    Attributes:
        kind: ``refinement``, ``validation`` or the baseline's own word.
        t: Time at which the denoiser was asked.
        tokens: (B, N) after the step.
        target: (B, N) predicted x_1 of the step.
        rates: (B, N) rate of leaving each token, 0 where a step has none.
        jumped: (B, N) bool, true where the token changed.
        confidence: (B, N) probability of the target under the denoiser.
    """

    kind: str
    t: float
    tokens: Tensor
    target: Tensor
    rates: Tensor
    jumped: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class Solution:
    """Tokens and what they cost.

    Attributes:
        tokens: (B, N) int64.
        evaluations: Calls of the denoiser.
        trace: One entry an evaluation when asked for, else empty.
    """

    tokens: Tensor
    evaluations: int
    trace: tuple[TraceStep, ...] = ()


def as_prediction(answer: Tensor | Prediction) -> Prediction:
    """Return the denoiser's answer as a `Prediction`."""
    return answer if isinstance(answer, Prediction) else Prediction(answer)


@dataclass(frozen=True)
class Committed:
    """Positions that are never changed (real-time chunking).

    Attributes:
        mask: (B, N) bool, true where the token is fixed.
        tokens: (B, N) int64; read where the mask is true.
    """

    mask: Tensor
    tokens: Tensor

    def hold(self, tokens: Tensor) -> Tensor:
        """Return ``tokens`` with the committed positions put back."""
        return torch.where(self.mask, self.tokens, tokens)


def committed_positions(
    committed: tuple[Tensor, Tensor] | None, shape: tuple[int, int], device: torch.device
) -> Committed | None:
    """Check and broadcast (mask, tokens), each (N,) or (B, N), to the batch.

    Raises:
        FlowError: If shapes do not fit or the mask is not boolean.
    """
    if committed is None:
        return None
    mask, tokens = (torch.as_tensor(part, device=device) for part in committed)
    if mask.dtype != torch.bool or tokens.dtype != torch.int64:
        raise FlowError(f"committed holds {mask.dtype}, {tokens.dtype}; give bool and int64")
    for name, part in (("mask", mask), ("tokens", tokens)):
        if part.shape not in (torch.Size(shape), torch.Size(shape[1:])):
            raise FlowError(f"committed {name} is {tuple(part.shape)}; give (N,) or {shape}")
    return Committed(mask.expand(shape), tokens.expand(shape))
