"""Embeddings of numeric tokens whose distance keeps numeric order, trained by triplets.

A later version of DFM-VLA (arXiv 2603.26320) gives 2001 bins such an embedding ("MAAT") with a
triplet-margin loss; its details are not published. Here, for unit vectors e and tokens with
|v_i - v_j| < |v_i - v_k|,

    loss = [ |e_i - e_j| - |e_i - e_k| + m (|v_i - v_k| - |v_i - v_j|) ]_+

so the margin grows with the difference that it stands for (values scaled to [0, 1]): with a
constant margin near neighbours, whose gap is small, would push the far ones together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.flow.schedules import check_positive


@dataclass(frozen=True)
class TripletConfig:
    """How to train.

    Attributes:
        dimension: E, length of a row, >= 2.
        steps: Adam steps.
        triplets: Triplets a step.
        learning_rate: At the start; falls to 0 along a cosine.
        margin: m, embedding distance for the whole range of values. Along an arc of the unit
            sphere all triplets can have it up to m = 1.12 (an arc of 1.72 rad).
        seed: Of the start and the triplets.
    """

    dimension: int = 32
    steps: int = 600
    triplets: int = 4096
    learning_rate: float = 0.03
    margin: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("dimension", 2), ("steps", 1), ("triplets", 1)):
            if getattr(self, name) < least:
                raise FlowError(f"{name} is {getattr(self, name)}; give at least {least}")
        for name in ("learning_rate", "margin"):
            check_positive(name, getattr(self, name))


def train_ordered_embedding(values: Tensor, config: TripletConfig | None = None) -> Tensor:
    """Return unit rows (K, E) fp32 whose L2 distance keeps the order of |v_i - v_j|.

    Args:
        values: (K,) strictly rising.
        config: How to train.

    Raises:
        FlowError: If the values are not strictly rising.
    """
    config = config or TripletConfig()
    unit = _to_unit_range(values)
    generator = torch.Generator().manual_seed(config.seed)
    table = torch.randn(len(unit), config.dimension, generator=generator).requires_grad_()
    optimiser = torch.optim.Adam([table], config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    for _ in range(config.steps):
        triplets = sample_triplets(unit, config.triplets, generator)
        loss = triplet_loss(table, unit, triplets, config.margin)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return functional.normalize(table.detach(), dim=-1)


def triplet_loss(embedding: Tensor, values: Tensor, triplets: Tensor, margin: float) -> Tensor:
    """Return the mean loss of (M, 3) triplets (anchor, nearer, farther)."""
    anchor, near, far = functional.normalize(embedding, dim=-1)[triplets.T]
    at, at_near, at_far = values[triplets.T]
    gap = (at - at_far).abs() - (at - at_near).abs()
    excess = _length(anchor - near) - _length(anchor - far) + margin * gap
    return excess.clamp_min(0.0).mean()


def sample_triplets(values: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return (at most count, 3) anchor, nearer, farther; half of them among neighbours.

    Neighbours are within 1/16 of the vocabulary: uniform triplets alone leave the order of near
    tokens, which decides the last steps of a flow, to chance.
    """
    size = len(values)
    tokens = torch.randint(size, (count, 3), generator=generator)
    reach = max(2, size // 16)
    offsets = torch.randint(-reach, reach + 1, (count // 2, 2), generator=generator)
    tokens[: count // 2, 1:] = (tokens[: count // 2, :1] + offsets).clamp_(0, size - 1)
    gaps = (values[tokens[:, :1]] - values[tokens[:, 1:]]).abs()
    swapped = torch.stack([tokens[:, 0], tokens[:, 2], tokens[:, 1]], 1)
    ordered = torch.where((gaps[:, :1] > gaps[:, 1:]), swapped, tokens)
    # Equal gaps have no order, and a token is trivially nearest to itself.
    return ordered[(gaps[:, 0] != gaps[:, 1]) & (gaps.amin(1) > 0)]


def order_agreement(embedding: Tensor, values: Tensor, count: int = 100_000) -> float:
    """Return the share of triplets whose order the embedding's L2 distance keeps (1/2: chance)."""
    unit = _to_unit_range(values)
    triplets = sample_triplets(unit, count, torch.Generator().manual_seed(1))
    anchor, near, far = functional.normalize(embedding.float(), dim=-1)[triplets.T]
    return float((_length(anchor - near) < _length(anchor - far)).float().mean())


def _to_unit_range(values: Tensor) -> Tensor:
    values = torch.as_tensor(values, dtype=torch.float32)
    if values.dim() != 1 or len(values) < 3 or not bool((values.diff() > 0).all()):
        raise FlowError("give at least 3 values, strictly rising, shape (K,)")
    return (values - values[0]) / (values[-1] - values[0])


def _length(vectors: Tensor) -> Tensor:
    """Return L2 norms with a finite gradient at zero."""
    return vectors.square().sum(-1).add(1e-12).sqrt()
