"""Random numbers of a step, and what a network is trained to do: its noise, its loss.

Objectives differ in nothing else, so that networks trained for them can be compared.
Shapes: B prefixes, R replicas of each, N tokens, K values, C = K logits or what `RefinerConfig`
says of ``outputs``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfm_vla_ros.flow.losses import head_log_rates, head_rate_loss
from dfm_vla_ros.flow.paths import MixturePath, Path
from dfm_vla_ros.model.folder import Method, PathConfig
from dfm_vla_ros.training.config import TrainConfig


def stream(*parts: object) -> int:
    """Return a seed in 0..2**63 - 1 that belongs to ``parts`` alone."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


@lru_cache(maxsize=4)
def shuffled(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the order (count,) in which an epoch takes the samples."""
    return np.random.default_rng(stream(seed, "order", epoch)).permutation(count)


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step, or of one process's part of it.

    Attributes:
        seed: of the run.
        step: from 1.
        batch: samples of the whole step, over all processes.
        rows: those of this part.
    """

    seed: int
    step: int
    batch: int
    rows: range

    def samples(self, count: int) -> Tensor:
        """Return (rows,) indices below ``count``: epoch after epoch, each in its own order."""
        first = (self.step - 1) * self.batch
        places = [divmod(first + row, count) for row in self.rows]
        chosen = [shuffled(self.seed, epoch, count)[place] for epoch, place in places]
        return torch.as_tensor(np.array(chosen, dtype=np.int64))

    def uniform(self, purpose: str, shape: Sequence[int]) -> Tensor:
        """Return (rows, *shape) numbers in [0, 1), another stream for each ``purpose``."""
        generator = torch.Generator().manual_seed(stream(self.seed, self.step, purpose))
        numbers = torch.rand((self.batch, *shape), generator=generator)
        return numbers[self.rows.start : self.rows.stop]

    def normal(self, purpose: str, shape: Sequence[int]) -> Tensor:
        """Return (rows, *shape) numbers of the standard normal distribution, fp64."""
        uniform = self.uniform(purpose, shape).double()
        # 2 u - 1 may be -1, whose inverse error function is infinite.
        return torch.erfinv((2 * uniform - 1).clamp(min=-1 + 1e-6)) * math.sqrt(2)


def parts(
    seed: int, step: int, batch: int, process: int, processes: int, accumulate: int
) -> list[Draws]:
    """Return what ``process`` of ``processes`` does of a step, in ``accumulate`` parts."""
    size = batch // (processes * accumulate)
    first = process * size * accumulate
    starts = range(first, first + size * accumulate, size)
    return [Draws(seed, step, batch, range(start, start + size)) for start in starts]


LATEST = 0.999
"""No time is later: at t = 1 nothing is left to learn and rates are infinite."""


@dataclass(frozen=True)
class Objective:
    """``embed``: cross-entropy of x_1 given x_t, averaged over t (arXiv 2603.26320, L_ce).

    Attributes:
        path: that tokens are noised along.
        labels: (K, K), the distribution that stands for each token.
        replicas: R.
        time_power: t = u ** time_power.
    """

    outputs: ClassVar[Literal["logits", "rates", "values"]] = "logits"
    method: ClassVar[Method] = "flow"
    causal: ClassVar[bool] = False
    path: Path
    labels: Tensor
    replicas: int
    time_power: float

    def times(self, draws: Draws) -> Tensor:
        """Return t (B, R): 0 for the first replica, u ** time_power for the others."""
        t = draws.uniform("time", (self.replicas,)) ** self.time_power
        t[:, 0] = 0
        return t.clamp(max=LATEST)

    def corrupt(self, x1: Tensor, times: Tensor, uniforms: Tensor) -> Tensor:
        """Return x_t (B, R, N) ~ p_t(. | x_1) for x_1 (B, N) and uniforms (2, B, R, N)."""
        shape = (*times.shape, x1.shape[-1])
        repeated = x1[:, None].expand(shape).reshape(-1, shape[-1])
        # The path wants numbers in (0, 1].
        noise = 1.0 - uniforms.reshape(2, -1, shape[-1])
        return self.path.corrupt(repeated, times.flatten(), noise).view(shape)

    def weight(self, xt: Tensor) -> float:
        """Return the number of tokens that count in x_t (B, R, N)."""
        return float(xt.numel())

    def expected_weight(self, times: Tensor, uniforms: Tensor) -> float:
        """Return the same from what `corrupt` will be given."""
        return float(uniforms[0].numel())

    def loss(self, answer: Tensor, xt: Tensor, x1: Tensor, times: Tensor) -> Tensor:
        """Return the sum of the losses.

        Args:
            answer: (B, R, N, C) of the network.
            xt: (B, R, N) that it saw.
            x1: (B, N).
            times: (B, R).
        """
        return self.cross_entropy(answer, x1).sum()

    def cross_entropy(self, logits: Tensor, x1: Tensor) -> Tensor:
        """Return (B, R, N) of logits (B, R, N, K)."""
        labels = self.labels[x1][:, None].expand_as(logits)
        return -(labels * torch.log_softmax(logits.float(), dim=-1)).sum(-1)

    def guess(self, answer: Tensor) -> Tensor:
        """Return the tokens (...) of an answer (..., C): the median."""
        logits = answer[..., : len(self.labels)]
        return (
            (logits.float().softmax(-1).cumsum(-1) < 0.5).sum(-1).clamp(max=len(self.labels) - 1)
        )


class Head(Objective):
    """``head``: on the mixture path, L_ce plus the rate loss of a velocity head."""

    outputs = "rates"

    def loss(self, answer: Tensor, xt: Tensor, x1: Tensor, times: Tensor) -> Tensor:
        """Return the sum of L_ce and of the rate losses over w_t.

        1 / w_t evens out the rate loss, which else is all about t near 1.
        """
        logits, raw = answer[..., :-1].flatten(0, 1), answer[..., -1].flatten(0, 1)
        assert isinstance(self.path, MixturePath)
        schedule, t = self.path.schedule, times.flatten()
        repeated = x1[:, None].expand_as(xt).flatten(0, 1)
        weights = (1.0 / schedule.hazard(t)).unsqueeze(-1).expand_as(raw)
        rates = head_log_rates(raw, t, schedule)
        noised = xt.flatten(0, 1)
        mean = head_rate_loss(logits, rates, noised, repeated, t, schedule, weights)
        return self.cross_entropy(answer[..., :-1], x1).sum() + mean * weights.sum()


class MaskedDiffusion(Objective):
    """``masked``: cross-entropy of the tokens that are MASK (arXiv 2202.04200)."""

    method = "masked"

    def weight(self, xt: Tensor) -> float:
        """Return the number of MASKs."""
        return float((xt == len(self.labels)).sum())

    def expected_weight(self, times: Tensor, uniforms: Tensor) -> float:
        """Return the number of MASKs that there will be."""
        kappa = self.path.to("cpu").schedule.kappa(times)[..., None]
        return float((1.0 - uniforms[0] > kappa).sum())

    def loss(self, answer: Tensor, xt: Tensor, x1: Tensor, times: Tensor) -> Tensor:
        """Return the sum over the MASKs; see `Objective.loss`."""
        masked = xt == len(self.labels)
        return self.cross_entropy(answer, x1).where(masked, 0.0).sum()


@dataclass(frozen=True)
class Autoregression(Objective):
    """``ar``: teacher-forced: each position is predicted from the data before it.

    Attributes:
        noise_bins: deviation of what is added to the teacher's tokens, so that the network cannot
            just go on as they do.
    """

    method = "autoregressive"
    causal = True
    noise_bins: float = 0.0

    def corrupt(self, x1: Tensor, times: Tensor, uniforms: Tensor) -> Tensor:
        """Return x_1 (B, 1, N), with noise: the network shifts it."""
        if self.noise_bins == 0:
            return x1[:, None]
        # The normal quantile of a uniform in (0, 1).
        normal = math.sqrt(2) * torch.erfinv((2 * uniforms[0] - 1).clamp(-0.999999, 0.999999))
        noised = x1[:, None] + (self.noise_bins * normal).round().long()
        return noised.clamp(0, len(self.labels) - 1)


class Regression(Objective):
    """``l1``: the distance to the token's value on a scale from -1 to 1; no noise is seen."""

    outputs = "values"
    method = "regression"

    def corrupt(self, x1: Tensor, times: Tensor, uniforms: Tensor) -> Tensor:
        """Return MASK everywhere (B, 1, N)."""
        return torch.full_like(x1, len(self.labels))[:, None]

    def loss(self, answer: Tensor, xt: Tensor, x1: Tensor, times: Tensor) -> Tensor:
        """Return the sum of |value - answer|; see `Objective.loss`."""
        value = x1 * (2.0 / (len(self.labels) - 1)) - 1.0
        return (answer[..., 0].float() - value[:, None]).abs().sum()

    def guess(self, answer: Tensor) -> Tensor:
        """Return the nearest tokens."""
        last = len(self.labels) - 1
        return ((answer[..., 0].float() + 1.0) * (last / 2)).round().long().clamp(0, last)


KINDS: dict[str, tuple[type[Objective], str | None]] = {
    "embed": (Objective, None),
    "head": (Head, "mixture"),
    "ar": (Autoregression, None),
    "masked": (MaskedDiffusion, "masked"),
    "l1": (Regression, "masked"),
}
"""Objective -> its class and the kind of path that it needs; None: the config's."""


def path_config(config: TrainConfig) -> PathConfig:
    """Return the path that the objective trains on, as the checkpoint names it."""
    kind = KINDS[config.objective][1]
    given = config.path
    return given if kind is None else PathConfig(given.scale, given.c, given.alpha, kind)


def make_objective(config: TrainConfig, vocabulary: int, device: str | torch.device) -> Objective:
    """Return the objective of ``config`` over K = ``vocabulary`` tokens."""
    kind = KINDS[config.objective][0]
    replicas = 1 if config.objective in ("ar", "l1") else config.replicas
    path = path_config(config).build(vocabulary).to(device)
    labels = smoothed_labels(vocabulary, config.smoothing_bins).to(device)
    noise = (config.teacher_noise_bins,) if kind is Autoregression else ()
    return kind(path, labels, replicas, config.time_power, *noise)


def smoothed_labels(vocabulary: int, deviation: float) -> Tensor:
    """Return (K, K): row i is a Gaussian over bins around i, ``deviation`` bins wide."""
    if deviation <= 0:
        return torch.eye(vocabulary)
    bins = torch.arange(vocabulary, dtype=torch.float32)
    return torch.softmax(-((bins[:, None] - bins) ** 2) / (2 * deviation**2), dim=-1)
