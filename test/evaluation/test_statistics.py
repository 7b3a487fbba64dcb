"""Wilson's interval."""

from __future__ import annotations

import pytest
from scipy.optimize import brentq

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.evaluation.statistics import Z95, wilson


@pytest.mark.parametrize(("successes", "trials"), [(1, 10), (7, 40), (25, 50), (49, 50)])
def test_that_the_bounds_solve_the_score_equation(successes: int, trials: int) -> None:
    observed = successes / trials

    def score(p: float) -> float:
        return (observed - p) ** 2 - Z95**2 * p * (1 - p) / trials

    low, high = wilson(successes, trials)
    assert low == pytest.approx(brentq(score, 1e-9, observed))
    assert high == pytest.approx(brentq(score, observed, 1 - 1e-9))


def test_that_none_and_all_reach_the_ends() -> None:
    assert wilson(0, 50)[0] == 0.0
    assert wilson(50, 50)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)


def test_that_more_successes_than_trials_is_refused() -> None:
    with pytest.raises(DfmVlaError, match="3 successes in 2 trials"):
        wilson(3, 2)
