"""What a probability path p_t(x | x_1) from noise to data offers, and its checks.

Positions are independent given x_1. Arithmetic is fp32 (fp64 where t or the distance is) and in
log space; nothing is NaN for any t in [0, 1].
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from dfm_vla_ros.flow.errors import FlowError
from dfm_vla_ros.flow.noise import Draw

CPU = torch.device("cpu")


class Path(abc.ABC):
    """A conditional probability path with a rate that generates it.

    Attributes:
        vocabulary: K.
        ordered: Whether a median of tokens makes sense.
        positions: N that the path is bound to, None for any.
        sizes: (N,) vocabularies of the positions where some are below K, else None.
        device: Where its tensors are, and where a solver runs.
    """

    vocabulary: int
    ordered: bool
    positions: int | None
    sizes: Tensor | None
    device: torch.device

    @abc.abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Return this path with its tensors on ``device``."""

    @abc.abstractmethod
    def log_prob(self, x1: Tensor, t: Tensor) -> Tensor:
        """Return log p_t(. | x_1): (B, N), (B,) or (B, N) -> (B, N, K)."""

    @abc.abstractmethod
    def rates(self, x: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """Return the rate u_t(y, x | x_1) of jumping from x to every y, (B, N, K).

        Rates are >= 0 and 0 at y = x; their sum is the rate of leaving x.
        """

    @abc.abstractmethod
    def corrupt(self, x1: Tensor, t: Tensor, uniforms: Sequence[Tensor]) -> Tensor:
        """Return x_t ~ p_t(. | x_1) from two (B, N) of uniforms in (0, 1]."""

    @abc.abstractmethod
    def moment(self, t: float) -> Any:
        """Return what `move` needs to know about time t, computed once a grid."""

    @abc.abstractmethod
    def move(
        self, x: Tensor, x1: Tensor, moment: Any, h: float, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """Return x after an Euler step of length h towards x_1, and its rates of leaving, (B, N).

        With lambda the sum of `rates`, x jumps with probability 1 - exp(-h lambda) to
        y ~ rates / lambda. The same law as `rates`, in as few operations as possible.
        """

    def sample(self, x1: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return x_t ~ p_t(. | x_1), (B, N) int64.

        Args:
            x1: (B, N) int64 data.
            t: (B,) or (B, N) in [0, 1].
            generator: Source of randomness, None for torch's default.
        """
        uniforms = 1.0 - torch.rand((2, *x1.shape), generator=generator, device=x1.device)
        return self.corrupt(x1, t, uniforms)

    def source_tokens(self, uniform: Tensor) -> Tensor:
        """Return tokens of the source, uniform over each position's vocabulary, (B, N)."""
        sizes = self.vocabulary if self.sizes is None else self.sizes
        return (uniform * sizes).ceil_().long() - 1

    def outside(self) -> Tensor | None:
        """Return (N, K) bool, true where a position has no such token; None if all have."""
        if self.sizes is None:
            return None
        return torch.arange(self.vocabulary, device=self.device) >= self.sizes.unsqueeze(-1)


def broadcast_time(t: Tensor, x1: Tensor) -> Tensor:
    """Return t as (B, 1, 1) or (B, N, 1), checked to lie in [0, 1].

    Raises:
        FlowError: If t has neither shape (B,) nor (B, N), or leaves [0, 1].
    """
    if t.shape not in (x1.shape[:1], x1.shape, (x1.shape[0], 1)):
        raise FlowError(f"t has shape {tuple(t.shape)}; give (B,) or (B, N) of {tuple(x1.shape)}")
    if not bool(((t >= 0.0) & (t <= 1.0)).all()):
        raise FlowError(f"t spans {float(t.min())}..{float(t.max())}; give times in [0, 1]")
    return t.view(x1.shape[0], -1, 1)


def check_tokens(tokens: Tensor, path: Path) -> None:
    """Raise `FlowError` unless tokens are (B, N) int64 within the path's vocabularies."""
    if tokens.dim() != 2 or tokens.dtype != torch.int64:
        raise FlowError(f"tokens are {tokens.dtype} {tuple(tokens.shape)}; give int64 (B, N)")
    if path.positions is not None and tokens.shape[1] != path.positions:
        raise FlowError(f"{tokens.shape[1]} tokens for a path of {path.positions} positions")
    sizes = path.vocabulary if path.sizes is None else path.sizes
    if bool((tokens < 0).any()) or bool((tokens >= sizes).any()):
        raise FlowError(
            f"tokens span {int(tokens.min())}..{int(tokens.max())}, outside a position's "
            f"vocabulary (at most {path.vocabulary}); tokenise with the path's tokenizer"
        )
