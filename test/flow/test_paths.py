import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dfm_vla_ros.flow import (
    CosineSchedule,
    EmbeddingDistance,
    FlowError,
    MatrixDistance,
    MetricPath,
    MetricSchedule,
    MixturePath,
    OrderedDistance,
    Path,
    PolynomialSchedule,
    per_position,
)
from dfm_vla_ros.flow.paths import MaskedPath
from dfm_vla_ros.flow.sampling import Draw

K = 6
PATHS = {
    "ordered": MetricPath(OrderedDistance(torch.linspace(0.0, 1.0, K), scale=4.0)),
    "embedding": MetricPath(
        EmbeddingDistance(torch.randn(K, 4, generator=torch.Generator().manual_seed(0)))
    ),
    "linear": MixturePath(K),
    "cosine": MixturePath(K, CosineSchedule()),
    "masked": MaskedPath(K),
}
both_kinds = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())


def random_distance(seed: int) -> tuple[MatrixDistance, int, torch.Generator]:
    """Return an asymmetric fp64 distance that keeps no rule but d(i, i) = 0."""
    generator = torch.Generator().manual_seed(seed)
    size = int(torch.randint(2, 65, (1,), generator=generator))
    matrix = torch.rand(size, size, generator=generator, dtype=torch.float64) + 1e-3
    return MatrixDistance(matrix.fill_diagonal_(0.0), dtype=torch.float64), size, generator


def kolmogorov_residual(rates: Tensor, prob: Tensor, change: Tensor) -> float:
    """Return |dp/dt - (inflow - outflow)|; rates[x, y] is that of jumping from x to y."""
    inflow = torch.einsum("x,xy->y", prob, rates)
    outflow = prob * rates.sum(1)
    return float((change - (inflow - outflow)).abs().max())


@pytest.mark.parametrize("seed", range(40))
def test_that_the_metric_velocity_satisfies_the_kolmogorov_forward_equation(seed: int) -> None:
    distance, size, generator = random_distance(seed)
    schedule = MetricSchedule(3.0, 0.5 + seed / 20)
    target = torch.randint(size, (1,), generator=generator)
    t = 0.05 + 0.9 * torch.rand(1, generator=generator, dtype=torch.float64)

    def density(time: Tensor) -> Tensor:  # written down independently of the path
        beta = schedule.c * (time / (1 - time)) ** schedule.alpha
        weight = torch.exp(-beta * distance.transposed[target.item()])
        return weight / weight.sum()

    prob, change = density(t), torch.autograd.functional.jacobian(density, t)[:, 0]
    every = torch.arange(size).unsqueeze(0)
    path = MetricPath(distance, schedule)
    rates = path.rates(every, target.expand(1, size), t)[0]
    assert kolmogorov_residual(rates, prob, change) < 1e-10
    assert bool((rates >= 0.0).all())
    assert bool((rates[target.item()] == 0.0).all())
    torch.testing.assert_close(path.log_prob(target.view(1, 1), t)[0, 0].exp(), prob)


@pytest.mark.parametrize("schedule", [PolynomialSchedule(2.5), CosineSchedule()], ids=str)
@pytest.mark.parametrize("make", [MixturePath, MaskedPath])
def test_that_mixture_velocities_satisfy_the_kolmogorov_forward_equation(
    make: Callable[..., object], schedule: Any
) -> None:
    path, target = make(K, schedule), 2
    states = K + (make is MaskedPath)
    t = torch.tensor([0.37], dtype=torch.float64)

    def density(time: Tensor) -> Tensor:
        kappa = schedule.kappa(time)
        noise = torch.zeros(states, dtype=torch.float64)
        noise[K:] = 1.0
        if make is MixturePath:
            noise[:] = 1.0 / K
        data = torch.nn.functional.one_hot(torch.tensor(target), states)
        return kappa * data + (1.0 - kappa) * noise

    prob, change = density(t), torch.autograd.functional.jacobian(density, t)[:, 0]
    every = torch.arange(states).unsqueeze(0)
    rates = path.rates(every, torch.full((1, states), target), t)[0]
    assert kolmogorov_residual(rates, prob, change) < 1e-10
    assert bool((rates >= 0.0).all())
    assert bool((rates[target] == 0.0).all())


@both_kinds
@pytest.mark.parametrize("t", [0.0, 1e-8, 0.5, 0.999, 1.0 - 1e-7, 1.0])
def test_that_nothing_is_nan_at_any_time(path: Path, t: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    x1 = torch.randint(K, (2, 5), generator=generator)
    time = torch.full((2,), t)
    x = path.sample(x1, time, generator)
    log_prob, rates = path.log_prob(x1, time), path.rates(x, x1, time)
    assert log_prob.dtype == rates.dtype == torch.float32
    assert not bool(log_prob.isnan().any())
    assert bool(torch.isfinite(rates).all())
    torch.testing.assert_close(log_prob.exp().sum(-1), torch.ones(2, 5))


@both_kinds
def test_that_the_path_ends_at_the_data(path: Path) -> None:
    x1 = torch.arange(K).unsqueeze(0)
    end = torch.ones(1)
    assert torch.equal(path.sample(x1, end), x1)
    torch.testing.assert_close(path.log_prob(x1, end).exp()[0, :, :K], torch.eye(K))


@both_kinds
def test_that_samples_follow_the_density_also_with_a_time_for_each_position(
    path: Path, generator: torch.Generator
) -> None:
    x1 = torch.tensor([[0, 3, 5]])
    t = torch.tensor([[0.05, 0.3, 0.7]])
    many = 40_000
    x = path.sample(x1.expand(many, 3), t.expand(many, 3), generator)
    expected = path.log_prob(x1, t)[0].exp()
    seen = torch.nn.functional.one_hot(x, expected.shape[-1]).float().mean(0)
    assert float((seen - expected).abs().max()) < 4 * 0.5 / math.sqrt(many)


PATHS["uneven"] = MetricPath(OrderedDistance([0.0, 0.1, 0.15, 0.5, 0.7, 1.0], scale=4.0))


@pytest.mark.parametrize("name", ["ordered", "uneven", "embedding", "linear", "masked"])
@pytest.mark.parametrize(("x", "x1"), [(0, 4), (5, 1), (2, 2)])
def test_that_a_move_has_the_law_of_the_rates(name: str, x: int, x1: int) -> None:
    path, t, many = PATHS[name], 0.4, 10_000
    current, target = torch.full((many, 1), x), torch.full((many, 1), x1)
    even = ((torch.arange(many) + 0.5) / many).unsqueeze(-1)
    expected = path.rates(current[:1], target[:1], torch.tensor([t]))[0, 0]
    # Clocks that ring at once and evenly spread places: destinations exact to 1 / many.
    draw = Draw(target=even, place=even, clock=torch.zeros(many, 1))
    moved, rates = path.move(current, target, path.moment(t), 0.1, draw)
    torch.testing.assert_close(rates[0, 0], expected.sum())
    if expected.sum() == 0:
        assert torch.equal(moved, current)
    else:
        seen = torch.bincount(moved[:, 0], minlength=len(expected)) / many
        assert float((seen - expected / expected.sum()).abs().max()) < 2 / many
    # Evenly spread clocks: the share that jumps, exact to 1 / many.
    moved, _ = path.move(current, target, path.moment(t), 0.1, draw._replace(clock=-even.log()))
    share = float((moved != current).float().mean())
    assert share == pytest.approx(1.0 - math.exp(-0.1 * float(expected.sum())), abs=2 / many)


def test_that_the_first_moment_has_finite_rates_towards_the_target() -> None:
    path = PATHS["ordered"]
    x, x1 = torch.tensor([[0, 3]]), torch.tensor([[5, 3]])
    draw = Draw(*(torch.full((1, 2), 0.5) for _ in range(3)))
    rates = path.move(x, x1, path.moment(0.0), 1.0 / 16, draw)[1]
    torch.testing.assert_close(rates, path.rates(x, x1, torch.zeros(1)).sum(-1))


def test_that_a_position_never_gets_a_token_that_it_lacks(generator: torch.Generator) -> None:
    kinds = [OrderedDistance(torch.linspace(0.0, 1.0, K)), OrderedDistance([0.0, 1.0])]
    metric = MetricPath(per_position(kinds, [0, 1]))
    mixture = MixturePath(K, sizes=torch.tensor([K, 2]))
    x1 = torch.tensor([[4, 1]]).expand(2000, 2)
    for path in (metric, mixture):
        t = torch.rand(2000, generator=generator)
        x = path.sample(x1, t, generator)
        assert x[:, 0].unique().tolist() == list(range(K))
        assert x[:, 1].unique().tolist() == [0, 1]
        assert bool((path.log_prob(x1, t)[:, 1, 2:] == -math.inf).all())
        assert path.source_tokens(torch.rand(2000, 2))[:, 1].max() == 1


def test_that_the_metric_path_moves_to_nearer_tokens_only() -> None:
    path = PATHS["ordered"]
    rates = path.rates(torch.tensor([[5]]), torch.tensor([[2]]), torch.tensor([0.5]))[0, 0]
    assert (rates > 0).tolist() == [True, True, True, True, True, False]


@both_kinds
@pytest.mark.parametrize(
    ("t", "message"),
    [
        (torch.tensor([1.5]), r"t spans 1.5..1.5; give times in \[0, 1\]"),
        (torch.tensor([math.nan]), r"give times in \[0, 1\]"),
        (torch.rand(3), r"t has shape \(3,\); give \(B,\) or \(B, N\) of \(1, 2\)"),
    ],
)
def test_that_a_wrong_time_is_refused(path: Path, t: Tensor, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        path.sample(torch.tensor([[0, 1]]), t)


@both_kinds
@pytest.mark.parametrize("tokens", [[[0, K]], [[-1, 0]]])
def test_that_a_token_outside_the_vocabulary_is_refused(path: Path, tokens: Tensor) -> None:
    with pytest.raises(FlowError, match="outside a position's vocabulary"):
        path.sample(torch.tensor(tokens), torch.tensor([0.5]))


def test_that_a_sequence_of_another_length_is_refused() -> None:
    path = MixturePath(K, sizes=torch.tensor([K, 2]))
    with pytest.raises(FlowError, match="3 tokens for a path of 2 positions"):
        path.sample(torch.zeros(1, 3, dtype=torch.int64), torch.tensor([0.5]))
