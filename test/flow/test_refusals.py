"""What cannot be decoded is refused: the error names the value and what is allowed."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dfm_vla_ros.flow import (
    FlowError,
    MatrixDistance,
    MetricPath,
    MixturePath,
    OrderedDistance,
    Prediction,
    Solver,
    SolverConfig,
)

K, N = 16, 6
METRIC = MetricPath(OrderedDistance(torch.linspace(0.0, 1.0, K), scale=8.0))
MIXTURE = MixturePath(K)
UNORDERED = MetricPath(MatrixDistance(torch.ones(K, K).fill_diagonal_(0.0)))


def vague(tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
    return torch.zeros(*tokens.shape, K)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SolverConfig(-1, 2), "refinement_steps is -1; give 0 or more"),
        (lambda: SolverConfig(0, 0), "give at least one step"),
        (lambda: SolverConfig(target="mode"), "target is 'mode'; choose one of median, argmax"),
        (lambda: SolverConfig(temperature=0.0), "temperature is 0.0; give a number above 0"),
        (lambda: SolverConfig(top_k=0), "top_k is 0; give at least 1"),
        (lambda: SolverConfig(2, time_grid=(0.0, 1.0)), "time_grid has 2 times; 2 steps need 3"),
        (lambda: SolverConfig(1, time_grid=(0.5, 0.5)), "must rise strictly within"),
        (
            lambda: SolverConfig(early_stop=True, validation_target="sample"),
            "early_stop needs a validation that repeats itself",
        ),
        (lambda: Solver(UNORDERED), "target 'median' needs ordered tokens"),
        (
            lambda: Solver(UNORDERED, SolverConfig(target="mean")),
            "target 'mean' needs ordered tokens",
        ),
        (lambda: Solver(METRIC)(vague, (0, N)), r"shape is \(0, 6\); give \(B, N\)"),
        (
            lambda: Solver(METRIC)(lambda x, t, p: torch.zeros(1, N, K + 1), (1, N)),
            r"gave logits of shape \(1, 6, 17\); \(1, 6, 16\) is needed",
        ),
        (
            lambda: Solver(MIXTURE)(
                lambda x, t, p: Prediction(vague(x, t, p), torch.ones(1, N + 1)), (1, N)
            ),
            r"gave rates of shape \(1, 7\); \(1, 6\) is needed",
        ),
        (
            lambda: Solver(MIXTURE)(
                lambda x, t, p: Prediction(vague(x, t, p), torch.full((1, N), math.nan)), (1, N)
            ),
            "gave rates that are NaN or infinite",
        ),
        (
            lambda: Solver(METRIC)(lambda x, t, p: torch.full((1, N, K), math.nan), (1, N)),
            "the denoiser gave logits that are NaN or infinite",
        ),
        (
            lambda: Solver(METRIC)(
                lambda x, t, p: Prediction(vague(x, t, p), torch.ones(1, N)), (1, N)
            ),
            "rates belong to a MixturePath",
        ),
        (
            lambda: Solver(METRIC)(vague, (1, N), start=(torch.zeros(2, N).long(), 0.5)),
            r"start tokens are \(2, 6\); \(1, 6\) is decoded",
        ),
        (
            lambda: Solver(METRIC)(vague, (1, N), start=(torch.zeros(1, N).long(), 1.5)),
            r"give times in \[0, 1\]",
        ),
        (
            lambda: Solver(METRIC, SolverConfig(4, 0))(
                vague, (1, N), start=(torch.zeros(1, N).long(), 1.0)
            ),
            "start at t0 = 1.0 leaves no step",
        ),
        (
            lambda: Solver(METRIC)(
                vague, (1, N), committed=(torch.ones(N).bool(), torch.full((N,), K))
            ),
            "outside a position's vocabulary",
        ),
        (
            lambda: Solver(METRIC)(
                vague, (1, N), committed=(torch.ones(N), torch.zeros(N).long())
            ),
            "give bool and int64",
        ),
        (
            lambda: Solver(METRIC)(
                vague, (1, N), committed=(torch.ones(2).bool(), torch.zeros(N).long())
            ),
            r"committed mask is \(2,\); give \(N,\)",
        ),
    ],
)
def test_that_what_cannot_be_decoded_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(FlowError, match=message):
        call()
