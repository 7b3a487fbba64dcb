"""Training losses, each a weighted mean over the tokens that count.

Every loss takes ``weights`` (B, N) >= 0 (importance of a token; default one) and ``mask``
(B, N) bool, false where a token is padding; the mean is over sum(weights * mask).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.flow.paths import broadcast_time
from dfm_vla_ros.flow.schedules import MixtureSchedule


def cross_entropy(
    logits: Tensor,
    x1: Tensor,
    weights: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return ``-log p(x_1 | x_t, prefix)``, the loss of the embedding-guided flow.

    Args:
        logits: (B, N, K).
        x1: (B, N) int64 data.
        weights: (B, N) or None.
        mask: (B, N) bool, true where a token counts, or None for all.

    Returns:
        Scalar [nat a token].
    """
    _check_shapes(logits, x1)
    losses = functional.cross_entropy(logits.float().transpose(1, 2), x1, reduction="none")
    return weighted_mean(losses, weights, mask)


def head_rate_loss(
    logits: Tensor,
    log_rates: Tensor,
    xt: Tensor,
    x1: Tensor,
    t: Tensor,
    schedule: MixtureSchedule,
    weights: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the rate loss of the velocity head (arXiv 2603.26320; w_t after Edit Flows).

    ``lambda - w_t 1[x_t != x_1] (log lambda + log Q(x_1))`` with ``w_t = kappa'/(1 - kappa)``
    and Q the softmax with x_t masked out. It is least at ``lambda Q(y) = w_t P(x_1 = y | x_t)``.

    Args:
        logits: (B, N, K).
        log_rates: (B, N) log lambda.
        xt: (B, N) int64 noised tokens.
        x1: (B, N) int64 data.
        t: (B,) or (B, N) in [0, 1).
        schedule: kappa_t.
        weights: (B, N) or None.
        mask: (B, N) bool or None.
    """
    _check_shapes(logits, x1)
    log_q = replacement_log_probs(logits, xt)
    hazard = schedule.hazard(broadcast_time(t, x1)).squeeze(-1)
    moved = xt != x1
    # log Q(x_1) is -inf where x_t = x_1; that term has no weight and must leave no NaN gradient.
    target = torch.where(moved, x1, (x1 + 1) % logits.shape[-1])
    log_target = log_q.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    log_rates = log_rates.float()
    losses = log_rates.exp() - hazard * moved * (log_rates + log_target)
    return weighted_mean(losses, weights, mask)


def mixture_kl(
    logits: Tensor,
    xt: Tensor,
    x1: Tensor,
    t: Tensor,
    schedule: MixtureSchedule,
    weights: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the generalised KL between the mixture path's rates (arXiv 2412.03487).

    ``sum_{y != x_t} u log(u / v) - u + v`` with u = w_t 1[y = x_1] the path's rate and
    v = w_t p(y | x_t) the model's: an upper bound on the log-likelihood's gap, which is
    ``w_t (1[x_t != x_1] (-log p(x_1) - 1) + 1 - p(x_t))``.
    """
    _check_shapes(logits, x1)
    log_p = torch.log_softmax(logits.float(), -1)
    hazard = schedule.hazard(broadcast_time(t, x1)).squeeze(-1)
    moved = xt != x1
    log_target = log_p.gather(-1, x1.unsqueeze(-1)).squeeze(-1)
    stay = log_p.gather(-1, xt.unsqueeze(-1)).squeeze(-1).exp()
    losses = hazard * (moved * (-log_target - 1.0) + 1.0 - stay)
    return weighted_mean(losses, weights, mask)


def replacement_log_probs(logits: Tensor, xt: Tensor) -> Tensor:
    """Return log Q: the log-softmax with x_t itself masked out, (B, N, K)."""
    return torch.log_softmax(logits.float().scatter(-1, xt.unsqueeze(-1), -math.inf), -1)


def head_log_rates(raw: Tensor, t: Tensor, schedule: MixtureSchedule) -> Tensor:
    """Return log lambda = log w_t + log sigmoid(raw): what a head should give out.

    The best rate is w_t times a probability (that x_t is wrong), so a head that learns the
    probability alone has a bounded target at every t.

    Args:
        raw: (B, N) output of the network's head.
        t: (B,) or (B, N).
        schedule: kappa_t.
    """
    hazard = schedule.hazard(broadcast_time(t, raw)).squeeze(-1)
    return hazard.log() + functional.logsigmoid(raw.float())


def weighted_mean(losses: Tensor, weights: Tensor | None, mask: Tensor | None) -> Tensor:
    """Return sum(losses w) / sum(w), w = weights * mask, (B, N) -> scalar.

    Raises:
        FlowError: If a shape differs from that of the losses.
    """
    for name, factor in (("weights", weights), ("mask", mask)):
        if factor is not None and factor.shape != losses.shape:
            raise FlowError(f"{name} are {tuple(factor.shape)}; give {tuple(losses.shape)}")
    total = torch.ones_like(losses) if weights is None else weights.to(losses.dtype)
    if mask is not None:
        # where, not a product: a padded token's loss may be infinite.
        losses, total = losses.where(mask, 0.0), total.where(mask, 0.0)
    # A batch of padding alone has no loss rather than 0 / 0.
    return (losses * total).sum() / total.sum().clamp_min(torch.finfo(losses.dtype).tiny)


def _check_shapes(logits: Tensor, x1: Tensor) -> None:
    if logits.dim() != 3 or logits.shape[:2] != x1.shape:
        raise FlowError(f"logits are {tuple(logits.shape)} for tokens {tuple(x1.shape)}")
