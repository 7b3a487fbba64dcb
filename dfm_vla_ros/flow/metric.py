"""The metric-induced path (arXiv 2603.26320, after arXiv 2412.03487)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from dfm_vla_ros.flow.choice import lookup
from dfm_vla_ros.flow.distances import Distance, OrderedDistance
from dfm_vla_ros.flow.noise import Draw
from dfm_vla_ros.flow.path import Path, broadcast_time, check_tokens
from dfm_vla_ros.flow.schedules import MetricSchedule


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
