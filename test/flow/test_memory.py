"""What a solver, a path and a loss allocate: a few (B, N, K), never (B, N, K, K)."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dfm_vla_ros.flow import (
    EmbeddingDistance,
    MetricPath,
    MixturePath,
    OrderedDistance,
    Path,
    Solver,
    SolverConfig,
    cross_entropy,
)
from dfm_vla_ros.flow.baselines import Masked, MaskedConfig, MaskedPath
from dfm_vla_ros.flow.peak_memory import peak_in_logits


def metric(vocabulary: int) -> Path:
    return MetricPath(OrderedDistance(torch.linspace(0.0, 1.0, vocabulary), 32.0))


def embedded(vocabulary: int) -> Path:
    angle = torch.linspace(0.0, 3.0, vocabulary)
    table = torch.stack([angle.cos(), angle.sin()], 1)
    return MetricPath(EmbeddingDistance(table, ordered=True))


SIZES = [(1, 112, 256), (4, 50, 2001), (16, 112, 256)]


@pytest.mark.parametrize(("batch", "count", "vocabulary"), SIZES)
@pytest.mark.parametrize("make", [metric, embedded, MixturePath])
@pytest.mark.parametrize("target", ["median", "sample"])
def test_that_a_solver_holds_a_few_logits_at_most(
    make: Callable[..., Path], target: str, batch: int, count: int, vocabulary: int
) -> None:
    logits = torch.randn(batch, count, vocabulary)
    solver = Solver(make(vocabulary), SolverConfig(4, 1, target=target, early_stop=True))

    def call() -> None:
        solver(lambda tokens, t, prefix: logits, (batch, count), generators=[0] * batch)

    assert peak_in_logits(call, (batch, count), vocabulary) < 4.0


@pytest.mark.parametrize(("batch", "count", "vocabulary"), SIZES)
def test_that_noising_holds_a_few_logits_at_most(batch: int, count: int, vocabulary: int) -> None:
    path, t = metric(vocabulary), torch.rand(batch)
    x1 = torch.randint(vocabulary, (batch, count))
    assert peak_in_logits(lambda: path.sample(x1, t), (batch, count), vocabulary) < 4.0
    logits = torch.randn(batch, count, vocabulary)
    loss = peak_in_logits(lambda: cross_entropy(logits, x1), (batch, count), vocabulary)
    assert loss < 4.0


def test_that_masked_decoding_holds_a_few_logits_at_most() -> None:
    batch, count, vocabulary = 4, 112, 256
    logits = torch.randn(batch, count, vocabulary)
    decoder = Masked(MaskedPath(vocabulary), MaskedConfig(4))

    def call() -> None:
        decoder(lambda tokens, t, prefix: logits, (batch, count))

    assert peak_in_logits(call, (batch, count), vocabulary) < 4.0


def test_that_the_measure_sees_what_is_alive_at_once() -> None:
    def kept() -> list[Tensor]:
        return [torch.zeros(2, 10, 64) for _ in range(5)]

    def dropped() -> None:
        for _ in range(5):
            torch.zeros(2, 10, 64)

    def all_pairs() -> Tensor:
        rows = torch.zeros(2, 10, 64)
        return rows.unsqueeze(-1) - rows.unsqueeze(-2)

    peaks = [peak_in_logits(call, (2, 10), 64) for call in (kept, dropped, all_pairs)]
    assert peaks == pytest.approx([5.0, 1.0, 65.0])
