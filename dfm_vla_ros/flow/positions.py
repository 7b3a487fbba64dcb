"""Distances of a sequence whose positions are of different kinds (arm joint, gripper)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from dfm_vla_ros.flow.distances import Distance, OrderedDistance
from dfm_vla_ros.flow.errors import FlowError


class PerPosition(Distance):
    """Positions of one sequence with distances of their own; smaller vocabularies are padded.

    Args:
        distances: One for each kind of token, none bound to positions itself.
        kinds: For each of the N positions the index into ``distances``.

    Raises:
        FlowError: If a kind is out of range or a distance is already bound to positions.
    """

    def __init__(self, distances: Sequence[Distance], kinds: Sequence[int]) -> None:
        _check_kinds(distances, kinds)
        self.vocabulary = max(distance.vocabulary for distance in distances)
        self.positions = len(kinds)
        self.ordered = all(distances[kind].ordered for kind in kinds)
        sizes = torch.tensor([distances[kind].vocabulary for kind in kinds])
        self.sizes = sizes if bool((sizes < self.vocabulary).any()) else None
        self.groups = [
            (distance, torch.tensor([i for i, kind in enumerate(kinds) if kind == index]))
            for index, distance in enumerate(distances)
            if index in kinds
        ]

    @property
    def table(self) -> Tensor:
        """The first kind's tensor."""
        return self.groups[0][0].table

    def to(self, device: torch.device | str) -> Self:
        """Return this distance with every kind's tensors on ``device``."""
        moved = copy.copy(self)
        moved.groups = [(kind.to(device), where.to(device)) for kind, where in self.groups]
        moved.sizes = None if self.sizes is None else self.sizes.to(device)
        return moved

    def rows(self, tokens: Tensor) -> Tensor:
        """Return each position's own distances, (B, N) -> (B, N, K); padding is 0."""
        shape = (*tokens.shape, self.vocabulary)
        rows = torch.zeros(shape, dtype=self.table.dtype, device=tokens.device)
        for distance, where in self.groups:
            rows[:, where, : distance.vocabulary] = distance.rows(tokens[:, where])
        return rows


def per_position(distances: Sequence[Distance], kinds: Sequence[int]) -> Distance:
    """Return the distance of a sequence whose position n has ``distances[kinds[n]]``.

    Kinds that are all ordered fuse into one (N, K) table of values, which is as fast as a
    single kind; others are looked up kind by kind.
    """
    _check_kinds(distances, kinds)
    if not all(isinstance(distance, OrderedDistance) for distance in distances):
        return PerPosition(distances, kinds)
    vocabulary = max(distance.vocabulary for distance in distances)
    padded = torch.stack([_pad_rising(kind.table, vocabulary) for kind in distances])
    sizes = torch.tensor([distances[kind].vocabulary for kind in kinds])
    smaller = sizes if bool((sizes < vocabulary).any()) else None
    return OrderedDistance(padded[torch.tensor(kinds)], sizes=smaller, dtype=padded.dtype)


def _pad_rising(values: Tensor, vocabulary: int) -> Tensor:
    """Go on above the last value in steps of one: never looked at, but rising and finite."""
    extra = torch.arange(1, vocabulary - len(values) + 1, dtype=values.dtype)
    return torch.cat([values, values[-1] + extra.to(values.device)])


def _check_kinds(distances: Sequence[Distance], kinds: Sequence[int]) -> None:
    if not distances or not len(kinds):
        raise FlowError("give at least one distance and one position")
    wrong = [kind for kind in kinds if not 0 <= kind < len(distances)]
    if wrong:
        raise FlowError(f"kind {wrong[0]} is outside 0..{len(distances) - 1}")
    if any(distance.positions is not None for distance in distances):
        raise FlowError("a distance of one kind is already bound to positions; give it unbound")
