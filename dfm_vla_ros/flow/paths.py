"""The probability paths: metric-induced, mixture from uniform noise, mixture from MASK."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.flow.distances import Distance, OrderedDistance
from dfm_vla_ros.flow.sampling import Draw, lookup
from dfm_vla_ros.flow.schedules import (
    CosineSchedule,
    LinearSchedule,
    MetricSchedule,
    MixtureSchedule,
)

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


class EvenRows(NamedTuple):
    """Rows of a metric path at one time where tokens are equally spaced.

    Attributes:
        gap: (K, K) view of 2 K - 1 numbers: row K - 1 - z holds d(., z).
        weight: The same of exp(-beta_t d).
        factor: (K,) beta'_t over the normaliser of each z.
    """

    gap: Tensor
    weight: Tensor
    factor: Tensor


class MetricMoment(NamedTuple):
    """A metric path at one time.

    Attributes:
        beta: beta_t.
        derivative: d beta_t / dt.
        even: Ready rows for equally spaced tokens, None for other distances.
    """

    beta: float
    derivative: float
    even: EvenRows | None = None


@dataclass(frozen=True)
class MetricPath(Path):
    """Metric-induced path: noise sharpens towards the data through near tokens.

    ``p_t(x | x_1) = softmax_x(-beta_t d(x, x_1))`` and
    ``u_t(y, x | x_1) = p_t(y | x_1) dbeta_t/dt [d(x, x_1) - d(y, x_1)]_+``:
    only jumps that come nearer to x_1 happen.

    Args:
        distance: d.
        schedule: beta_t.
    """

    distance: Distance
    schedule: MetricSchedule = field(default_factory=MetricSchedule)

    def __post_init__(self) -> None:
        # Frozen, so derived attributes are set past the guard, once.
        for name in ("vocabulary", "ordered", "positions", "sizes"):
            object.__setattr__(self, name, getattr(self.distance, name))
        object.__setattr__(self, "device", self.distance.table.device)
        object.__setattr__(self, "_outside", self.outside())

    def to(self, device: torch.device | str) -> Self:
        """Return this path with its tensors on ``device``."""
        return replace(self, distance=self.distance.to(device))

    def log_prob(self, x1: Tensor, t: Tensor) -> Tensor:
        """Return log softmax(-beta_t d(., x_1)), (B, N, K)."""
        return torch.log_softmax(self._energy(x1, t), -1)

    def rates(self, x: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """Return u_t(y, x | x_1), (B, N, K)."""
        distance = self.distance.rows(x1)
        here = distance.gather(-1, x.unsqueeze(-1))
        gain = (here - distance).clamp_min(0.0)
        t = broadcast_time(t, x1)
        return self.log_prob(x1, t.squeeze(-1)).exp() * self.schedule.derivative(t) * gain

    def corrupt(self, x1: Tensor, t: Tensor, uniforms: Sequence[Tensor]) -> Tensor:
        """Return x_t ~ p_t(. | x_1), (B, N)."""
        return lookup(torch.softmax(self._energy(x1, t), -1).cumsum_(-1), uniforms[0])

    def moment(self, t: float) -> MetricMoment:
        """Return beta_t, its derivative and, for equally spaced tokens, ready rows."""
        time = torch.tensor(t, dtype=torch.float64)
        beta = float(self.schedule.beta(time))
        derivative = float(self.schedule.derivative(time))
        if not isinstance(self.distance, OrderedDistance):
            return MetricMoment(beta, derivative)
        gaps = self.distance.even_gaps()
        even = None if gaps is None else self._even_rows(gaps, beta, derivative)
        return MetricMoment(beta, derivative, even)

    def move(
        self, x: Tensor, x1: Tensor, moment: MetricMoment, h: float, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """Jump to a token nearer to x_1 or stay; see `Path.move`.

        Every operation counts: at batch 1 they, not the arithmetic, are the solver's time.
        """
        if moment.even is None:
            cumulative, rates = self._general(x, x1, moment)
        else:
            cumulative, rates = self._even(x, x1, moment.even)
        return torch.where(draw.clock < rates * h, lookup(cumulative, draw.place), x), rates

    def _general(self, x: Tensor, x1: Tensor, moment: MetricMoment) -> tuple[Tensor, Tensor]:
        """Return running sums of p_t(y) [d(x, x_1) - d(y, x_1)]_+, (B, N, K), and rates."""
        gap = self.distance.rows(x1)
        energy = gap * -moment.beta
        if self._outside is not None:
            energy.masked_fill_(self._outside, -math.inf)
        # softmax, not exp: torch's exp is four times slower where it underflows, as it does here.
        prob = torch.softmax(energy, -1)
        here = gap.gather(-1, x.unsqueeze(-1))
        gain = torch.sub(here, gap, out=gap).clamp_min_(0.0)
        cumulative = prob.mul_(gain).cumsum_(-1)
        return cumulative, cumulative[..., -1] * moment.derivative

    def _even(self, x: Tensor, x1: Tensor, rows: EvenRows) -> tuple[Tensor, Tensor]:
        """Do the same with ready rows; the sums lack the normaliser, which cancels."""
        flat = x1.flatten()
        index = torch.rsub(flat, self.vocabulary - 1)
        shape = (*x1.shape, self.vocabulary)
        gap = rows.gap.index_select(0, index).view(shape)
        weight = rows.weight.index_select(0, index).view(shape)
        here = gap.gather(-1, x.unsqueeze(-1))
        gain = torch.sub(here, gap, out=gap).clamp_min_(0.0)
        cumulative = weight.mul_(gain).cumsum_(-1)
        return cumulative, cumulative[..., -1] * rows.factor.index_select(0, flat).view_as(x1)

    def _even_rows(self, gaps: Tensor, beta: float, derivative: float) -> EvenRows:
        weight = torch.exp(-beta * gaps)
        # Row K - 1 - z is that of z: flipped, the sums of the windows are in the order of z.
        normaliser = weight.unfold(0, self.vocabulary, 1).sum(-1).flip(0)
        dtype = self.distance.table.dtype
        gap, weight = (line.to(dtype).unfold(0, self.vocabulary, 1) for line in (gaps, weight))
        return EvenRows(gap, weight, (derivative / normaliser).to(dtype))

    def _energy(self, x1: Tensor, t: Tensor) -> Tensor:
        """Return -beta_t d(., x_1), -inf where a position has no such token."""
        check_tokens(x1, self)
        energy = -self.schedule.beta(broadcast_time(t, x1)) * self.distance.rows(x1)
        if self._outside is not None:
            energy = energy.masked_fill(self._outside, -math.inf)
        return energy


@dataclass(frozen=True)
class MixturePath(Path):
    """Mixture path: ``x_t = x_1`` with probability kappa_t, else uniform noise.

    ``u_t(y, x | x_1) = w_t 1[y = x_1] 1[x != x_1]``, ``w_t = kappa'_t / (1 - kappa_t)``.

    Args:
        vocabulary: K.
        schedule: kappa_t.
        ordered: Whether token ids are in numeric order.
        sizes: (N,) int64 vocabularies where some positions have fewer than K tokens.
        device: Where solvers run.
    """

    vocabulary: int
    schedule: MixtureSchedule = field(default_factory=LinearSchedule)
    ordered: bool = True
    sizes: Tensor | None = None
    device: torch.device = CPU

    def __post_init__(self) -> None:
        if self.vocabulary < 2:
            raise FlowError(f"vocabulary is {self.vocabulary}; a path needs at least 2 tokens")
        sizes = self.sizes
        if sizes is not None and not bool(((sizes >= 2) & (sizes <= self.vocabulary)).all()):
            raise FlowError(f"sizes {sizes.tolist()} must lie in 2..{self.vocabulary}")
        object.__setattr__(self, "positions", None if sizes is None else len(sizes))

    def to(self, device: torch.device | str) -> Self:
        """Return this path for tokens on ``device``."""
        sizes = None if self.sizes is None else self.sizes.to(device)
        return replace(self, sizes=sizes, device=torch.device(device))

    def log_prob(self, x1: Tensor, t: Tensor) -> Tensor:
        """Return log(kappa_t 1[x = x_1] + (1 - kappa_t) / K), (B, N, K)."""
        check_tokens(x1, self)
        t = broadcast_time(t, x1)
        kappa = self.schedule.kappa(t)
        sizes = self.vocabulary if self.sizes is None else self.sizes.unsqueeze(-1)
        noise = ((1.0 - kappa) / sizes).expand(*x1.shape, self.vocabulary)
        prob = noise.scatter_add(-1, x1.unsqueeze(-1), kappa.expand(*x1.shape, 1))
        outside = self.outside()
        return (prob if outside is None else prob.masked_fill(outside, 0.0)).log()

    def rates(self, x: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """Return w_t 1[y = x_1] 1[x != x_1], (B, N, K)."""
        check_tokens(x1, self)
        hazard = self.schedule.hazard(broadcast_time(t, x1)) * (x != x1).unsqueeze(-1)
        rates = hazard.new_zeros((*x1.shape, self.vocabulary))
        return rates.scatter_(-1, x1.unsqueeze(-1), hazard)

    def corrupt(self, x1: Tensor, t: Tensor, uniforms: Sequence[Tensor]) -> Tensor:
        """Return x_1 with probability kappa_t, else a uniform token, (B, N)."""
        check_tokens(x1, self)
        kappa = self.schedule.kappa(broadcast_time(t, x1)).squeeze(-1)
        return torch.where(uniforms[0] <= kappa, x1, self.source_tokens(uniforms[1]))

    def moment(self, t: float) -> float:
        """Return w_t."""
        return float(self.schedule.hazard(torch.tensor(t, dtype=torch.float64)))

    def move(
        self, x: Tensor, x1: Tensor, moment: float, h: float, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """Jump to x_1 at the rate w_t where x differs from it; see `Path.move`."""
        rates = (x != x1) * moment
        return torch.where(draw.clock < rates * h, x1, x), rates


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
