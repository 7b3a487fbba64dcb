"""Image tokens."""

from __future__ import annotations

import pytest
import torch

from dfm_vla_ros.model.vision import FsqConfig, FsqTokenizer, ImageTokenizerError, split_codes


def network(**changes: object) -> FsqTokenizer:
    torch.manual_seed(0)
    return FsqTokenizer(FsqConfig(image_size=32, hidden=8, **changes))


def test_that_a_code_splits_into_the_levels_that_made_it() -> None:
    tokenizer = network(levels=(8, 5, 3))
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    digits = tokenizer.quantise(images.permute(0, 3, 1, 2).float() / 255).long()
    split = split_codes(tokenizer.encode(images), (8, 5, 3))
    assert torch.equal(split, digits.flatten(2).transpose(1, 2))


def test_that_codes_stay_inside_the_vocabulary_for_extreme_images() -> None:
    tokenizer = network()
    for value in (0, 255):
        codes = tokenizer.encode(torch.full((1, 32, 32, 3), value, dtype=torch.uint8))
        assert 0 <= codes.min() <= codes.max() < tokenizer.config.vocabulary_size == 4096


def test_that_the_gradient_passes_through_the_rounding() -> None:
    tokenizer = network()
    tokenizer(torch.rand(2, 3, 32, 32)).square().mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in tokenizer.encoder.parameters())


@pytest.mark.parametrize("shape", [(1, 32, 31, 3), (1, 3, 32, 32), (32, 32, 3)])
def test_that_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageTokenizerError, match=r"expected torch\.uint8 \(B, 32, 32, 3\)"):
        network().encode(torch.zeros(shape, dtype=torch.uint8))
