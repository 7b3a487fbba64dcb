"""From logits to tokens: a sample, the argmax or, for ordered tokens, the median or the mean.

All but argmax and mean is inverse-CDF lookup: one cumulative sum and one binary search a position,
with one uniform number for a sample. Uniforms lie in (0, 1], so a token of probability zero is
never drawn, also when rounding leaves the last cumulative sum below one.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from dfm_vla_ros.flow.errors import FlowError

Choice = Literal["median", "argmax", "sample", "mean"]
ORDERED: tuple[Choice, ...] = ("median", "mean")
"""Those that need tokens whose ids rise with the value."""


def choose(logits: Tensor, how: Choice, uniform: Tensor | None = None) -> Tensor:
    """Return one token a position.

    Args:
        logits: (B, N, K), at least one finite in each row.
        how: ``median`` is the smallest token whose cumulative probability reaches one half; it
            minimises the expected |i - j|. ``mean`` is the expected token, rounded; it
            minimises the expected (i - j)^2 and may lie where no token is likely.
        uniform: (B, N) in (0, 1]; used by ``sample`` alone.

    Returns:
        (B, N) int64.
    """
    if how == "argmax":
        return logits.argmax(-1)
    probabilities = torch.softmax(logits, -1)
    if how == "mean":
        ids = torch.arange(logits.shape[-1], device=logits.device, dtype=probabilities.dtype)
        # NaN logits have no mean; whoever made them is told after the last step.
        return (probabilities @ ids).nan_to_num_().round_().long()
    cumulative = probabilities.cumsum_(-1)
    if how == "median":
        half = cumulative.new_full((*cumulative.shape[:-1], 1), 0.5)
        found = torch.searchsorted(cumulative, half).squeeze(-1)
    elif uniform is None:
        raise FlowError("a sample needs uniform numbers; give (B, N) of them")
    else:
        found = lookup(cumulative, uniform)
    # Only NaN logits lead past the end; whoever made them is told after the last step.
    return found.clamp_(max=cumulative.shape[-1] - 1)


def lookup(cumulative: Tensor, uniform: Tensor) -> Tensor:
    """Return the first index where ``cumulative`` reaches ``uniform`` of its last entry.

    Args:
        cumulative: (B, N, K) non-decreasing, not necessarily ending at one.
        uniform: (B, N) in (0, 1].
    """
    wanted = cumulative[..., -1:] * uniform.unsqueeze(-1)
    return torch.searchsorted(cumulative, wanted).squeeze(-1)


def confidence(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the probability of ``tokens``: (B, N, K), (B, N) -> (B, N)."""
    return torch.softmax(logits, -1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def sharpen(logits: Tensor, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
    """Return fp32 logits divided by the temperature, with all but the top k at -inf."""
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    if top_k is None or top_k >= logits.shape[-1]:
        return logits
    threshold = logits.topk(top_k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < threshold, -math.inf)


def check_choice(name: str, how: str) -> None:
    """Raise `FlowError` unless ``how`` is a known way to choose."""
    if how not in get_args(Choice):
        raise FlowError(f"{name} is {how!r}; choose one of {', '.join(get_args(Choice))}")


def check_sharpening(temperature: float, top_k: int | None) -> None:
    """Raise `FlowError` unless the temperature is above 0 and top_k at least 1."""
    if not (math.isfinite(temperature) and temperature > 0.0):
        raise FlowError(f"temperature is {temperature}; give a number above 0, or use argmax")
    if top_k is not None and top_k < 1:
        raise FlowError(f"top_k is {top_k}; give at least 1, or None for all")
