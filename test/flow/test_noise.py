import math

import pytest
import torch
from torch import Tensor

from dfm_vla_ros.flow import FlowError
from dfm_vla_ros.flow.sampling import BLOCK, Generators, Noise

CPU = torch.device("cpu")


def stream(generators: Generators, shape: tuple[int, int], steps: int = 2 * BLOCK + 3) -> Tensor:
    noise = Noise(generators, shape, CPU)
    return torch.stack([torch.stack(noise.draw()[:2]) for _ in range(steps)])


def test_that_a_seed_gives_the_same_numbers_in_any_batch() -> None:
    alone = stream([7], (1, 5))
    together = stream([3, 7, 1], (3, 5))
    assert torch.equal(together[:, :, 1], alone[:, :, 0])
    assert not torch.equal(together[:, :, 0], alone[:, :, 0])


def test_that_numbers_are_uniform_and_never_zero() -> None:
    numbers = stream(list(range(20)), (20, 50))
    assert 0.0 < numbers.min() < 0.001
    assert 0.999 < numbers.max() <= 1.0
    histogram = torch.histc(numbers, 10, 0.0, 1.0) / numbers.numel()
    torch.testing.assert_close(histogram, torch.full((10,), 0.1), atol=0.005, rtol=0.0)


def test_that_a_clock_rings_within_h_with_probability_one_minus_exp_of_minus_h() -> None:
    clock = Noise(list(range(20)), (20, 5000), CPU).draw().clock
    assert clock.min() >= 0.0
    for h in (0.1, 1.0, 3.0):
        assert (clock < h).float().mean().item() == pytest.approx(1 - math.exp(-h), abs=0.01)


def test_that_one_generator_for_the_batch_repeats_itself() -> None:
    first = stream(torch.Generator().manual_seed(4), (3, 5))
    assert torch.equal(first, stream(torch.Generator().manual_seed(4), (3, 5)))


def test_that_seeds_leave_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    stream([1, 2], (2, 5))
    assert torch.equal(torch.rand(3), expected)


def test_that_one_seed_for_two_samples_is_refused() -> None:
    with pytest.raises(FlowError, match="1 seeds for a batch of 2; give one each"):
        Noise([1], (2, 5), CPU)
