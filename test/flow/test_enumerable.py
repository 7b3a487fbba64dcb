"""Samples against a joint distribution of which everything is known (see conftest)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dfm_vla_ros.flow import (
    MetricPath,
    MixturePath,
    OrderedDistance,
    Path,
    Solver,
    SolverConfig,
)
from dfm_vla_ros.flow.baselines import (
    Autoregressive,
    AutoregressiveConfig,
    Masked,
    MaskedConfig,
    MaskedPath,
    OneStep,
    OneStepConfig,
    Remasked,
    RemaskedConfig,
)

K, N = 8, 3
METRIC = MetricPath(OrderedDistance(torch.linspace(0.0, 1.0, K), scale=4.0))
MIXTURE, MASKED = MixturePath(K), MaskedPath(K)
FLOWS = {
    "metric": (METRIC, "denoiser"),
    "mixture": (MIXTURE, "denoiser"),
    "head": (MIXTURE, "head"),
}
every_flow = pytest.mark.parametrize(("path", "answer"), FLOWS.values(), ids=FLOWS.keys())


def exact_sampler(joint: Any, count: int) -> float:
    """Return what an exact sampler of as many draws shows."""
    return joint.total_variation(joint.draw(count, torch.Generator().manual_seed(1)))


def solve(joint: Any, path: Path, answer: str, steps: int, count: int) -> float:
    solver = Solver(path, SolverConfig(steps, 0, target="sample"))
    denoiser = getattr(joint, answer)(path)
    generator = torch.Generator().manual_seed(2)
    return joint.total_variation(solver(denoiser, (count, N), generators=generator).tokens)


@every_flow
def test_that_more_steps_come_nearer_to_a_correlated_joint(
    joint: Any, path: Path, answer: str
) -> None:
    coarse, fine = (solve(joint, path, answer, steps, 40_000) for steps in (8, 64))
    floor = exact_sampler(joint, 40_000)
    assert fine < 0.4 * coarse
    assert fine < floor + 0.03


@pytest.mark.slow
@pytest.mark.timeout(1800)
@every_flow
def test_that_256_steps_sample_a_correlated_joint_as_an_exact_sampler_does(
    joint: Any, path: Path, answer: str, record_property: Callable[[str, object], None]
) -> None:
    count = 200_000
    floor = exact_sampler(joint, count)
    shown = [solve(joint, path, answer, steps, count) for steps in (16, 64, 256)]
    record_property("total variation at 16, 64, 256 steps", shown)
    print(f"exact {floor:.4f}; T = 16, 64, 256: {shown[0]:.4f} {shown[1]:.4f} {shown[2]:.4f}")
    assert shown[0] > shown[1] > shown[2]
    assert shown[2] < floor + 0.01


def test_that_one_step_gives_the_product_of_the_marginals(joint: Any) -> None:
    count = 100_000
    decoder = OneStep(MASKED, OneStepConfig("sample"))
    shown = joint.total_variation(decoder(joint.denoiser(MASKED), (count, N)).tokens)
    theory = 0.5 * float((joint.product_of_marginals() - joint.prob).abs().sum())
    assert theory > 0.3  # far from the truth, however many samples are drawn
    assert shown == pytest.approx(theory, abs=0.01)


def test_that_one_validation_step_from_noise_is_as_wrong_as_one_step(joint: Any) -> None:
    solver = Solver(MIXTURE, SolverConfig(0, 1, target="sample", validation_target="sample"))
    shown = joint.total_variation(solver(joint.denoiser(MIXTURE), (100_000, N)).tokens)
    theory = 0.5 * float((joint.product_of_marginals() - joint.prob).abs().sum())
    assert shown == pytest.approx(theory, abs=0.01)


def test_that_one_masked_token_a_step_in_random_order_is_exact(joint: Any) -> None:
    config = MaskedConfig(16, choice="sample", order="random")
    shown = joint.total_variation(
        Masked(MASKED, config)(joint.denoiser(MASKED), (100_000, N)).tokens
    )
    assert shown < exact_sampler(joint, 100_000) + 0.01


def test_that_unmasking_by_confidence_prefers_likely_sequences(joint: Any) -> None:
    """The most confident sample is kept first: not the truth, at any number of steps."""
    config = MaskedConfig(16, choice="sample")
    tokens = Masked(MASKED, config)(joint.denoiser(MASKED), (20_000, N)).tokens
    assert joint.total_variation(tokens) > 0.2
    likelihood = joint.prob[(tokens * torch.tensor([64, 8, 1])).sum(-1)].mean()
    assert likelihood > 1.1 * (joint.prob**2).sum()


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_that_re_masking_comes_nearer_with_more_steps(joint: Any, eta: float) -> None:
    shown = []
    for steps in (8, 64):
        decoder = Remasked(MASKED, RemaskedConfig(steps, eta=eta))
        tokens = decoder(joint.denoiser(MASKED), (20_000, N)).tokens
        shown.append(joint.total_variation(tokens))
    assert shown[1] < 0.5 * shown[0]
    assert shown[1] < exact_sampler(joint, 20_000) + 0.06


def test_that_autoregression_is_exact(joint: Any) -> None:
    cube = joint.prob.view(K, K, K)

    def causal(tokens: torch.Tensor, t: torch.Tensor, prefix: Any) -> torch.Tensor:
        first, second = tokens[:, 0], tokens[:, 1]
        rows = [cube.sum((1, 2)).expand(len(tokens), K), cube.sum(2)[first], cube[first, second]]
        return torch.stack(rows, 1).log().float()

    decoder = Autoregressive(MIXTURE, AutoregressiveConfig("sample"))
    shown = joint.total_variation(decoder(causal, (100_000, N)).tokens)
    assert shown < exact_sampler(joint, 100_000) + 0.01
