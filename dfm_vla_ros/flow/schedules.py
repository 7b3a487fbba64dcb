"""How fast a probability path goes from noise (t = 0) to data (t = 1).

The metric-induced path sharpens with ``beta_t``; the mixture path mixes in the data with
``kappa_t``. All functions are elementwise, finite on the whole of [0, 1] and keep the dtype.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dfm_vla_ros.errors import FlowError

# Derivatives diverge at the ends of [0, 1]; there they take their value this far inside.
EDGE = 1e-6
# beta_1 is infinite; with this finite value beta * 0 = 0 and exp(-beta * d) = 0 for d > 1e-28.
LARGEST_BETA = 1e30


@dataclass(frozen=True)
class MetricSchedule:
    """``beta_t = c (t / (1 - t))^alpha`` of the metric-induced path (arXiv 2603.26320).

    Args:
        c: Scale, > 0. The paper's 3 suits distances of order one.
        alpha: Exponent, > 0.
    """

    c: float = 3.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        for name in ("c", "alpha"):
            check_positive(name, getattr(self, name))

    def beta(self, t: Tensor) -> Tensor:
        """Return beta_t, 0 at t = 0 and ``LARGEST_BETA`` at t = 1."""
        return (self.c * (t / (1.0 - t)) ** self.alpha).clamp(max=LARGEST_BETA)

    def derivative(self, t: Tensor) -> Tensor:
        """Return d beta_t / dt = c alpha t^(alpha - 1) / (1 - t)^(alpha + 1)."""
        t = t.clamp(EDGE if self.alpha < 1.0 else 0.0, 1.0 - EDGE)
        return self.c * self.alpha * t ** (self.alpha - 1.0) / (1.0 - t) ** (self.alpha + 1.0)


class MixtureSchedule(abc.ABC):
    """``kappa_t``: the probability that a token of the mixture path is already the data's."""

    @abc.abstractmethod
    def kappa(self, t: Tensor) -> Tensor:
        """Return kappa_t, rising from 0 to 1."""

    @abc.abstractmethod
    def derivative(self, t: Tensor) -> Tensor:
        """Return d kappa_t / dt."""

    def hazard(self, t: Tensor) -> Tensor:
        """Return w_t = kappa'_t / (1 - kappa_t), the rate at which noise turns into data."""
        t = t.clamp(max=1.0 - EDGE)
        return self.derivative(t) / (1.0 - self.kappa(t))


@dataclass(frozen=True)
class PolynomialSchedule(MixtureSchedule):
    """``kappa_t = t^n``.

    Args:
        exponent: n >= 1 (below 1 the rate at t = 0 is infinite).
    """

    exponent: float = 2.0

    def __post_init__(self) -> None:
        check_positive("exponent", self.exponent)
        if self.exponent < 1.0:
            raise FlowError(f"exponent is {self.exponent}; a rate at t = 0 needs at least 1")

    def kappa(self, t: Tensor) -> Tensor:
        """Return t^n."""
        return t**self.exponent

    def derivative(self, t: Tensor) -> Tensor:
        """Return n t^(n - 1)."""
        return self.exponent * t ** (self.exponent - 1.0)


@dataclass(frozen=True)
class LinearSchedule(PolynomialSchedule):
    """``kappa_t = t``."""

    exponent: float = 1.0


@dataclass(frozen=True)
class CosineSchedule(MixtureSchedule):
    """``kappa_t = 1 - cos(pi t / 2)``: slow at first (the unmasking schedule of MaskGIT)."""

    def kappa(self, t: Tensor) -> Tensor:
        """Return 1 - cos(pi t / 2)."""
        return 1.0 - torch.sin(0.5 * math.pi * (1.0 - t))

    def derivative(self, t: Tensor) -> Tensor:
        """Return (pi / 2) sin(pi t / 2)."""
        return 0.5 * math.pi * torch.cos(0.5 * math.pi * (1.0 - t))

    def hazard(self, t: Tensor) -> Tensor:
        """Return (pi / 2) tan(pi t / 2), written so that t near 1 keeps its digits."""
        t = t.clamp(max=1.0 - EDGE)
        return 0.5 * math.pi / torch.tan(0.5 * math.pi * (1.0 - t))


def check_positive(name: str, value: float) -> None:
    """Raise `FlowError` unless ``value`` is finite and above zero."""
    if not (math.isfinite(value) and value > 0.0):
        raise FlowError(f"{name} is {value}; give a finite number above 0")
