import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dfm_vla_ros.flow import (
    CosineSchedule,
    FlowError,
    LinearSchedule,
    MetricSchedule,
    PolynomialSchedule,
)

METRIC = [MetricSchedule(), MetricSchedule(2.0, 0.5), MetricSchedule(0.7, 2.5)]
MIXTURE = [LinearSchedule(), PolynomialSchedule(3.0), CosineSchedule()]
TIMES = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)


def slope(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    t = t.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(t).sum(), t)
    return gradient


@pytest.mark.parametrize("schedule", METRIC, ids=str)
def test_that_the_derivative_of_beta_is_its_slope(schedule: Any) -> None:
    torch.testing.assert_close(schedule.derivative(TIMES), slope(schedule.beta, TIMES))


@pytest.mark.parametrize("schedule", MIXTURE, ids=str)
def test_that_the_derivative_of_kappa_is_its_slope(schedule: Any) -> None:
    torch.testing.assert_close(schedule.derivative(TIMES), slope(schedule.kappa, TIMES))


@pytest.mark.parametrize("schedule", MIXTURE, ids=str)
def test_that_the_hazard_is_the_rate_at_which_noise_dies_out(schedule: Any) -> None:
    def log_noise(t: Tensor) -> Tensor:
        return torch.log1p(-schedule.kappa(t))

    torch.testing.assert_close(schedule.hazard(TIMES), -slope(log_noise, TIMES))


def test_that_beta_is_the_papers_at_half_time() -> None:
    assert MetricSchedule().beta(torch.tensor(0.5)).item() == 3.0


def test_that_the_cosine_leaves_the_share_of_noise_that_maskgit_masks() -> None:
    noise = 1.0 - CosineSchedule().kappa(torch.tensor([0.25, 0.5, 0.75]))
    expected = torch.tensor([math.cos(math.pi * t / 2) for t in (0.25, 0.5, 0.75)])
    torch.testing.assert_close(noise, expected)


@pytest.mark.parametrize("schedule", MIXTURE, ids=str)
def test_that_kappa_goes_from_noise_to_data(schedule: Any) -> None:
    torch.testing.assert_close(
        schedule.kappa(torch.tensor([0.0, 1.0])), torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0.0
    )


@pytest.mark.parametrize("schedule", [*METRIC, *MIXTURE], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_that_every_schedule_is_finite_on_the_whole_interval(
    schedule: Any, dtype: torch.dtype
) -> None:
    t = torch.tensor([0.0, 1e-8, 0.5, 0.999, 1.0 - 1e-7, 1.0], dtype=dtype)
    values = [schedule.derivative(t)]
    values += [schedule.beta(t)] if schedule in METRIC else [schedule.kappa(t), schedule.hazard(t)]
    assert all(bool(torch.isfinite(value).all()) for value in values)
    assert all(value.dtype == dtype for value in values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MetricSchedule(c=0.0), "c is 0.0; give a finite number above 0"),
        (lambda: MetricSchedule(alpha=math.inf), "alpha is inf; give a finite number above 0"),
        (lambda: PolynomialSchedule(0.5), "exponent is 0.5; a rate at t = 0 needs at least 1"),
    ],
)
def test_that_an_impossible_schedule_is_refused(make: Callable[..., object], message: str) -> None:
    with pytest.raises(FlowError) as caught:
        make()
    assert str(caught.value) == message
