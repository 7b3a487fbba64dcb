from collections.abc import Callable

import numpy as np
import pytest
import torch

from dfm_vla_ros.flow import (
    Distance,
    EmbeddingDistance,
    FlowError,
    MatrixDistance,
    OrderedDistance,
    distances,
    per_position,
)
from dfm_vla_ros.flow.distances import PerPosition

TOKENS = torch.tensor([[0, 3, 1], [2, 2, 0]])


def test_that_an_ordered_distance_is_the_scaled_difference_of_values() -> None:
    values = [-1.0, 0.0, 0.5, 4.0]
    rows = OrderedDistance(values, scale=2.0).rows(TOKENS)
    expected = [[[2.0 * abs(v - values[z]) for v in values] for z in row] for row in TOKENS]
    torch.testing.assert_close(rows, torch.tensor(expected))


def test_that_a_matrix_distance_reads_target_columns_of_an_asymmetric_matrix() -> None:
    matrix = torch.tensor([[0.0, 1.0], [5.0, 0.0]])
    rows = MatrixDistance(matrix).rows(torch.tensor([[0, 1]]))
    assert rows.tolist() == [[[0.0, 5.0], [1.0, 0.0]]]


@pytest.mark.parametrize("power", [2.0, 4.0])
@pytest.mark.parametrize("largest_table", [4096, 1], ids=["tabulated", "computed"])
def test_that_an_embedding_distance_is_a_power_of_the_l2_distance(
    power: float, largest_table: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distances, "LARGEST_TABLE", largest_table)
    table = np.random.default_rng(0).normal(size=(7, 5))
    rows = EmbeddingDistance(torch.from_numpy(table), power, scale=3.0).rows(TOKENS)
    unit = table / np.sqrt((table**2).sum(1, keepdims=True))
    cosine = unit @ unit.T
    expected = 3.0 * np.maximum(2.0 - 2.0 * cosine, 0.0) ** (power / 2)
    np.testing.assert_allclose(rows.numpy(), expected[TOKENS.numpy()], atol=1e-5)


def test_that_near_neighbours_of_an_embedding_keep_their_distance_in_fp32() -> None:
    angle = torch.arange(2001, dtype=torch.float64) * 1e-4
    table = torch.stack([angle.cos(), angle.sin()], 1)
    near = EmbeddingDistance(table, power=1.0).rows(torch.tensor([[1000]]))[0, 0, 1001]
    assert near.item() == pytest.approx(1e-4, rel=1e-3)


def kinds() -> tuple[list[Distance], list[int]]:
    joint = OrderedDistance(torch.linspace(0.0, 1.0, 6), scale=4.0)
    gripper = OrderedDistance([0.0, 1.0], scale=8.0)
    return [joint, gripper], [0, 1, 0]


def test_that_positions_of_one_sequence_have_their_own_distances() -> None:
    (joint, gripper), which = kinds()
    tokens = torch.tensor([[0, 1, 5]])
    rows = per_position([joint, gripper], which).rows(tokens)
    torch.testing.assert_close(rows[:, [0, 2]], joint.rows(tokens[:, [0, 2]]))
    torch.testing.assert_close(rows[:, [1], :2], gripper.rows(tokens[:, [1]]))


def test_that_fused_ordered_kinds_equal_the_kind_by_kind_lookup() -> None:
    tokens = torch.tensor([[0, 1, 5], [3, 0, 2]])
    fused, plain = per_position(*kinds()), PerPosition(*kinds())
    inside = torch.arange(6) < plain.sizes.unsqueeze(-1)
    assert isinstance(fused, OrderedDistance)
    assert fused.sizes.tolist() == plain.sizes.tolist() == [6, 2, 6]
    torch.testing.assert_close(fused.rows(tokens) * inside, plain.rows(tokens) * inside)


def test_that_a_sequence_may_mix_ordered_and_embedded_kinds() -> None:
    word = EmbeddingDistance(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    joint = OrderedDistance([0.0, 1.0, 2.0, 3.0])
    mixed = per_position([joint, word], [0, 1, 1])
    rows = mixed.rows(TOKENS)
    torch.testing.assert_close(rows[:, :1], joint.rows(TOKENS[:, :1]))
    torch.testing.assert_close(rows[:, 1:], word.rows(TOKENS[:, 1:]))
    assert mixed.sizes is None
    assert not mixed.ordered


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OrderedDistance([0.0, 1.0, 1.0]), "strictly rising; sort them"),
        (lambda: OrderedDistance([0.0, float("nan")]), "finite and strictly rising"),
        (lambda: OrderedDistance([1.0]), r"values have shape \(1,\); give \(K,\)"),
        (lambda: OrderedDistance([0.0, 1.0], scale=-1.0), "scale is -1.0; give a finite number"),
        (
            lambda: OrderedDistance(torch.arange(6.0).view(2, 3), sizes=torch.tensor([3, 4])),
            r"sizes \[3, 4\] must lie in 2..3",
        ),
        (lambda: MatrixDistance(torch.ones(3, 3)), "0 on the diagonal and above 0 elsewhere"),
        (lambda: MatrixDistance(torch.zeros(2, 3)), r"has shape \(2, 3\); give \(K, K\)"),
        (lambda: EmbeddingDistance(torch.zeros(3, 2)), "zero or not finite"),
        (lambda: EmbeddingDistance(torch.ones(3, 2)), "0 on the diagonal and above 0 elsewhere"),
        (lambda: per_position([OrderedDistance([0.0, 1.0])], [0, 1]), "kind 1 is outside 0..0"),
        (lambda: per_position([], []), "at least one distance"),
        (lambda: per_position([per_position(*kinds())], [0]), "already bound to positions"),
    ],
)
def test_that_something_that_is_no_distance_is_refused(
    make: Callable[..., object], message: str
) -> None:
    with pytest.raises(FlowError, match=message):
        make()
