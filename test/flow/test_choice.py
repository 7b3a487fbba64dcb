import numpy as np
import pytest
import torch

from dfm_vla_ros.flow import FlowError
from dfm_vla_ros.flow.sampling import choose, confidence, lookup, sharpen


def test_that_the_median_minimises_the_expected_distance_in_tokens() -> None:
    logits = 2.0 * torch.randn(4, 50, 17, generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(17.0)
    gaps = (tokens - tokens.unsqueeze(-1)).abs()  # [candidate, token]
    expected = torch.softmax(logits, -1) @ gaps.T
    chosen = expected.gather(-1, choose(logits, "median").unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(chosen, expected.min(-1).values)


def test_that_the_mean_minimises_the_expected_square_and_lies_between_two_ways() -> None:
    logits = 2.0 * torch.randn(4, 50, 17, generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(17.0)
    squares = (tokens - tokens.unsqueeze(-1)) ** 2  # [candidate, token]
    expected = torch.softmax(logits, -1) @ squares.T
    chosen = expected.gather(-1, choose(logits, "mean").unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(chosen, expected.min(-1).values)
    two_ways = torch.zeros(1, 1, 17).log()
    two_ways[..., 2], two_ways[..., 14] = np.log(0.6), np.log(0.4)
    assert choose(two_ways, "mean").item() == 7
    assert choose(two_ways, "median").item() == 2


def test_that_a_sample_has_the_probabilities_of_the_logits() -> None:
    prob = torch.tensor([0.1, 0.0, 0.6, 0.3])
    uniform = ((torch.arange(1000) + 0.5) / 1000).unsqueeze(0)
    drawn = choose(prob.log().expand(1, 1000, 4), "sample", uniform)
    torch.testing.assert_close(torch.bincount(drawn[0], minlength=4) / 1000, prob)


@pytest.mark.parametrize("uniform", [1e-30, 2.0**-24, 0.5, 1.0])
def test_that_a_token_of_probability_zero_is_never_drawn(uniform: float) -> None:
    weights = torch.tensor([0.0, 0.3, 0.0, 0.3, 0.3, 0.0, 0.0])
    assert weights[lookup(weights.cumsum(0), torch.tensor(uniform))] > 0.0


def test_that_top_k_leaves_the_likeliest_tokens_and_temperature_sharpens_them() -> None:
    logits = torch.tensor([[[0.0, 2.0, 1.0, -1.0]]])
    prob = torch.softmax(sharpen(logits, temperature=0.5, top_k=2), -1)
    expected = torch.softmax(torch.tensor([4.0, 2.0]), -1)
    torch.testing.assert_close(prob[0, 0], torch.tensor([0.0, expected[0], expected[1], 0.0]))


def test_that_bf16_logits_are_sharpened_in_fp32() -> None:
    assert sharpen(torch.zeros(1, 1, 4, dtype=torch.bfloat16)).dtype == torch.float32


def test_that_confidence_is_the_probability_of_the_token() -> None:
    logits = torch.tensor([[[0.2, 0.5, 0.3]]]).log()
    assert confidence(logits, torch.tensor([[1]])).item() == pytest.approx(0.5)


def test_that_a_sample_without_random_numbers_is_refused() -> None:
    with pytest.raises(FlowError, match="a sample needs uniform numbers"):
        choose(torch.zeros(1, 1, 4), "sample")
