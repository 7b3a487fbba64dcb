"""Random numbers for solvers: one generator for the batch, or one for each sample.

With one generator a sample the numbers of a sample depend on its seed and the step alone, so
the same seed gives the same tokens at any batch size and on any device (they are drawn on the
CPU, 20 steps at a time, and copied).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from dfm_vla_ros.errors import FlowError

# Steps drawn at once for per-sample generators: the start and the paper's 16 fit in one.
BLOCK = 20

Generators = torch.Generator | Sequence[int] | Sequence[torch.Generator] | None


class Draw(NamedTuple):
    """The random numbers of one step, each (B, N).

    Attributes:
        target: Uniform in (0, 1], for the predicted target.
        place: Uniform in (0, 1], for the destination of a jump.
        clock: Exponential with mean 1: a rate lambda rings within h if clock < h lambda, which
            has probability 1 - exp(-h lambda).
    """

    target: Tensor
    place: Tensor
    clock: Tensor


class Noise:
    """A stream of `Draw`, one a step.

    Args:
        generators: None for torch's default generator, one generator for the batch (on
            ``device``), or B seeds or B CPU generators, one for each sample.
        shape: (B, N).
        device: Where the numbers go.
    """

    def __init__(
        self, generators: Generators, shape: tuple[int, int], device: torch.device
    ) -> None:
        self.shape, self.device = shape, device
        self.shared = generators if isinstance(generators, torch.Generator) else None
        self.each: list[torch.Generator] | None = None
        if generators is not None and self.shared is None:
            self.each = [_generator(seed) for seed in generators]
            if len(self.each) != shape[0]:
                raise FlowError(f"{len(self.each)} seeds for a batch of {shape[0]}; give one each")
        self.block: list[Draw] = []

    def draw(self) -> Draw:
        """Return the next step's numbers."""
        if self.each is None:
            size = (1, 3, *self.shape)
            numbers = torch.rand(size, generator=self.shared, device=self.device)
            return _draws(numbers)[0]
        if not self.block:
            size = (BLOCK, 3, self.shape[1])
            rows = [torch.rand(size, generator=generator) for generator in self.each]
            self.block = _draws(torch.stack(rows, 2).to(self.device))[::-1]
        return self.block.pop()


def _draws(numbers: Tensor) -> list[Draw]:
    """Return steps from (steps, 3, B, N) numbers in [0, 1)."""
    # The inverse CDF needs (0, 1], and so does the logarithm.
    numbers = 1.0 - numbers
    numbers[:, 2].log_().neg_()
    return list(map(Draw, *(kind.unbind(0) for kind in numbers.unbind(1))))


def _generator(seed: int | torch.Generator) -> torch.Generator:
    if isinstance(seed, torch.Generator):
        return seed
    return torch.Generator().manual_seed(int(seed))


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
