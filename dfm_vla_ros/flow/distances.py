"""Distances between tokens, d(i, j) >= 0 and zero only for i = j, that induce a metric path.

A path asks for whole rows d(., z) for a batch of tokens z, shape (B, N, K); no distance ever
builds (B, N, K, K). `flow.positions` gives the positions of one sequence distances of their own.
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.flow.schedules import check_positive

# Up to this vocabulary an embedding's (K, K) distances are tabulated once (64 MiB in fp32).
LARGEST_TABLE = 4096


class Distance(abc.ABC):
    """Distance between tokens of a vocabulary of K.

    Attributes:
        vocabulary: K, the widest vocabulary of any position.
        ordered: Whether token ids rise with the value, so that a median makes sense.
        positions: N that the distance is bound to, None for any.
        sizes: (N,) vocabulary of each position where some are below K, else None.
    """

    vocabulary: int
    ordered: bool = False
    positions: int | None = None
    sizes: Tensor | None = None

    @abc.abstractmethod
    def rows(self, tokens: Tensor) -> Tensor:
        """Return d(y, tokens) for every y: (B, N) int64 -> (B, N, K)."""

    @property
    @abc.abstractmethod
    def table(self) -> Tensor:
        """The tensor that holds the distance; it fixes dtype and device."""

    def to(self, device: torch.device | str) -> Self:
        """Return this distance with its tensors on ``device``."""
        if self.table.device == torch.device(device):
            return self
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor | Distance):
                setattr(moved, name, value.to(device))
        return moved


class OrderedDistance(Distance):
    """``d(i, j) = s |v_i - v_j|`` for tokens with numeric values.

    The scale decides when the path settles: with 256 bins over [0, 1], c = 3 and 14 steps,
    s = 1 leaves the work to the last greedy steps, s = 32 to 64 settles in time.

    Args:
        values: (K,) strictly rising values, or (N, K) to give each position its own.
        scale: s > 0.
        sizes: (N,) vocabulary of each position for (N, K) values, None for K everywhere.
        dtype: Of the distances; float64 for proofs.

    Raises:
        FlowError: If the values are not finite and strictly rising, or a size is out of range.

    Attributes:
        scaled: s v, (K,) or (N, K).
    """

    ordered = True

    def __init__(
        self,
        values: Tensor | Sequence[float],
        scale: float = 1.0,
        sizes: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        values = torch.as_tensor(values).to(dtype)
        check_positive("scale", scale)
        _check_values(values, sizes)
        self.vocabulary = values.shape[-1]
        self.positions = values.shape[0] if values.dim() == 2 else None
        self.sizes = sizes
        self.scaled = values * scale

    @property
    def table(self) -> Tensor:
        """The scaled values."""
        return self.scaled

    def even_gaps(self) -> Tensor | None:
        """Return s |v_i - v_j| by i - j = 1 - K..K - 1, (2 K - 1,) fp64; None if uneven.

        With equally spaced values every row is a window of this line.
        """
        if self.positions is not None:
            return None
        steps = self.scaled.double().diff()
        if float(steps.max() - steps.min()) > 1e-4 * float(steps.mean()):
            return None
        ids = torch.arange(1 - self.vocabulary, self.vocabulary, device=steps.device)
        return ids.abs() * steps.mean()

    def rows(self, tokens: Tensor) -> Tensor:
        """Return s |v_y - v_token|, (B, N) -> (B, N, K)."""
        if self.positions is None:
            own = self.scaled[tokens].unsqueeze(-1)
        else:
            wide = self.scaled.expand(tokens.shape[0], -1, -1)
            own = wide.gather(2, tokens.unsqueeze(-1))
        return (own - self.scaled).abs_()


class MatrixDistance(Distance):
    """Any (K, K) matrix of distances, not necessarily symmetric: entry [y, z] is d(y, z).

    Args:
        matrix: (K, K), zero on the diagonal and positive elsewhere.
        ordered: Whether token ids are in numeric order.
        dtype: Of the distances.
    """

    def __init__(
        self, matrix: Tensor, ordered: bool = False, dtype: torch.dtype = torch.float32
    ) -> None:
        matrix = torch.as_tensor(matrix).to(dtype)
        _check_matrix(matrix)
        self.vocabulary = matrix.shape[0]
        self.ordered = ordered
        self.transposed = matrix.T.contiguous()

    @property
    def table(self) -> Tensor:
        """The matrix, transposed so that a row of distances is contiguous."""
        return self.transposed

    def rows(self, tokens: Tensor) -> Tensor:
        """Return d(y, token), (B, N) -> (B, N, K)."""
        rows = self.transposed.index_select(0, tokens.flatten())
        return rows.view(*tokens.shape, self.vocabulary)


class EmbeddingDistance(Distance):
    """``d(i, j) = scale |e_i - e_j|^power`` on L2-normalised rows of a frozen table.

    FUDOKI's code takes the power 4. Tabulated for vocabularies up to ``LARGEST_TABLE``; above,
    rows are computed when asked for and K x K is never held.

    Args:
        embedding: (K, E), no zero rows, no two rows in the same direction.
        power: Exponent of the L2 distance, > 0.
        scale: Factor, > 0.
        ordered: Whether token ids are in numeric order (`flow.embedding` trains such a table).
        dtype: Of the distances.
    """

    def __init__(
        self,
        embedding: Tensor,
        power: float = 4.0,
        scale: float = 1.0,
        ordered: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_positive("power", power)
        check_positive("scale", scale)
        embedding = torch.as_tensor(embedding).detach().double()
        _check_embedding(embedding)
        self.vocabulary, self.power, self.scale = embedding.shape[0], power, scale
        self.ordered = ordered
        rows = torch.nn.functional.normalize(embedding, dim=-1)
        self.unit = rows.to(dtype)
        self.matrix = None
        if self.vocabulary <= LARGEST_TABLE:
            self.matrix = MatrixDistance(scale * _l2(rows, rows) ** power, ordered, dtype)

    @property
    def table(self) -> Tensor:
        """The normalised embedding."""
        return self.unit

    def rows(self, tokens: Tensor) -> Tensor:
        """Return scale |e_y - e_token|^power, (B, N) -> (B, N, K)."""
        if self.matrix is not None:
            return self.matrix.rows(tokens)
        distance = _l2(self.unit[tokens.flatten()], self.unit) ** self.power
        return (self.scale * distance).view(*tokens.shape, self.vocabulary)


def _l2(rows: Tensor, table: Tensor) -> Tensor:
    """Return exact pairwise L2 distances; the matrix-product form loses near neighbours."""
    return torch.cdist(rows, table, compute_mode="donot_use_mm_for_euclid_dist")


def _check_values(values: Tensor, sizes: Tensor | None) -> None:
    if values.dim() not in (1, 2) or values.shape[-1] < 2:
        raise FlowError(f"values have shape {tuple(values.shape)}; give (K,) or (N, K), K >= 2")
    if not bool(torch.isfinite(values).all()) or not bool((values.diff(dim=-1) > 0).all()):
        raise FlowError("values of ordered tokens must be finite and strictly rising; sort them")
    if sizes is None:
        return
    if values.dim() != 2 or sizes.shape != values.shape[:1]:
        raise FlowError(f"sizes have shape {tuple(sizes.shape)}; give one for each (N, K) row")
    if bool((sizes < 2).any()) or bool((sizes > values.shape[-1]).any()):
        raise FlowError(f"sizes {sizes.tolist()} must lie in 2..{values.shape[-1]}")


def _check_matrix(matrix: Tensor) -> None:
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] < 2:
        raise FlowError(f"a distance matrix has shape {tuple(matrix.shape)}; give (K, K), K >= 2")
    off_diagonal = matrix[~torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)]
    if bool((matrix.diagonal() != 0).any()) or not bool((off_diagonal > 0).all()):
        raise FlowError("a distance must be 0 on the diagonal and above 0 elsewhere")
    if not bool(torch.isfinite(matrix).all()):
        raise FlowError("a distance matrix has infinite entries; give finite distances")


def _check_embedding(embedding: Tensor) -> None:
    if embedding.dim() != 2 or embedding.shape[0] < 2:
        raise FlowError(f"an embedding has shape {tuple(embedding.shape)}; give (K, E), K >= 2")
    norms = embedding.norm(dim=-1)
    if not bool(torch.isfinite(norms).all()) or not bool((norms > 0).all()):
        raise FlowError("an embedding row is zero or not finite; it has no direction")


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
