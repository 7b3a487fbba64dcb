from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from dfm_vla_ros.flow import EmbeddingDistance, FlowError, MetricPath, Solver
from dfm_vla_ros.flow.embedding import (
    TripletConfig,
    order_agreement,
    train_ordered_embedding,
    triplet_loss,
)

VALUES = torch.linspace(-1.0, 1.0, 64)


@pytest.fixture(scope="module")
def embedding() -> Tensor:
    return train_ordered_embedding(VALUES, TripletConfig(steps=400, triplets=2048))


def test_that_training_makes_distance_keep_numeric_order(embedding: Tensor) -> None:
    untrained = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    assert order_agreement(untrained, VALUES) < 0.6
    assert order_agreement(embedding, VALUES) > 0.99


def test_that_the_distance_from_every_token_rises_with_the_difference(embedding: Tensor) -> None:
    gaps = (VALUES.unsqueeze(-1) - VALUES).abs()
    lengths = torch.cdist(embedding, embedding)
    for anchor in range(64):
        assert spearmanr(gaps[anchor], lengths[anchor]).statistic > 0.99


def test_that_rows_are_unit_vectors_and_repeat_with_the_seed(embedding: Tensor) -> None:
    torch.testing.assert_close(embedding.norm(dim=-1), torch.ones(64))
    again = train_ordered_embedding(VALUES, TripletConfig(steps=400, triplets=2048))
    assert torch.equal(embedding, again)


def test_that_a_path_along_the_embedding_reaches_a_median(embedding: Tensor) -> None:
    path = MetricPath(EmbeddingDistance(embedding, power=2.0, scale=8.0, ordered=True))
    answer = torch.tensor([[5, 40, 63]])

    def denoise(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
        return 20.0 * torch.nn.functional.one_hot(answer, 64).float()

    assert torch.equal(Solver(path)(denoise, (1, 3)).tokens, answer)


def test_that_the_triplet_loss_is_the_excess_over_an_adaptive_margin() -> None:
    embedding = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    values = torch.tensor([0.0, 0.25, 1.0])
    wrong = torch.tensor([[1, 0, 2]])  # both at sqrt(2), gaps 0.25 and 0.75
    assert triplet_loss(embedding, values, wrong, margin=2.0).item() == pytest.approx(1.0)
    right = torch.tensor([[0, 1, 2]])  # sqrt(2) and 2 apart, gaps 0.25 and 1
    assert triplet_loss(embedding, values, right, margin=0.5).item() == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train_ordered_embedding(torch.zeros(5)), "strictly rising"),
        (lambda: TripletConfig(steps=0), "steps is 0; give at least 1"),
        (lambda: TripletConfig(margin=0.0), "margin is 0.0; give a finite number above 0"),
    ],
)
def test_that_what_cannot_be_embedded_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(FlowError, match=message):
        call()
