"""Embedding of ordered tokens: neighbours are alike before anything is learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine_features(vocabulary_size: int, count: int) -> Tensor:
    """Return (K, F) features ``cos(pi k (i + 1/2) / K) / (1 + k / 6)``, k = 0..F-1.

    The damping makes low frequencies, that is coarse position, the cheapest to use.
    """
    tokens = torch.arange(vocabulary_size, dtype=torch.float64) + 0.5
    k = torch.arange(count, dtype=torch.float64)
    angles = math.pi / vocabulary_size * tokens[:, None] * k[None]
    return (angles.cos() / (1 + k / 6)).float()
