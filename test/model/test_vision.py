"""Emu3's image tokenizer: the codes of transformers' own encoder, under all three namings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_univla import random_vqvae, save_vision

from dfm_vla_ros.model.unified_weights import vision_weights
from dfm_vla_ros.model.vision import Emu3ImageTokenizer, Emu3VisionConfig, ImageTokenizerError


def loaded(folder: Path, naming: str) -> Emu3ImageTokenizer:
    save_vision(folder, naming)
    content = json.loads((folder / "config.json").read_text())
    tokenizer = Emu3ImageTokenizer(Emu3VisionConfig.read(content.get("vq_config", content)))
    tokenizer.vqvae.load_state_dict(vision_weights(folder))
    return tokenizer


@pytest.mark.parametrize("naming", ["transformers", "baai", "whole"])
def test_that_a_200_px_image_has_25_x_25_codes_those_of_transformers(
    tmp_path: Path, naming: str
) -> None:
    tokenizer = loaded(tmp_path / "vision", naming)
    images = torch.randint(0, 256, (1, 200, 200, 3), dtype=torch.uint8)
    codes = tokenizer.encode(images)
    pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        expected = random_vqvae().encode(pixels, torch.tensor([[200, 200]])).image_tokens
    assert codes.shape == (1, 625)
    # Of 32,768 random codes two may be equally near but for rounding.
    assert (codes == torch.stack(expected).flatten(1)).float().mean() > 0.99
    assert len(codes.unique()) > 100


def test_that_the_wrists_80_px_are_10_x_10_codes_and_decode_to_80_px(tmp_path: Path) -> None:
    tokenizer = loaded(tmp_path / "vision", "baai")
    codes = tokenizer.encode(torch.zeros(1, 80, 80, 3, dtype=torch.uint8))
    assert codes.shape == (1, 100)
    images = tokenizer.decode(codes.view(1, 10, 10))
    assert images.shape == (1, 80, 80, 3)
    assert images.dtype == torch.uint8
    tokenizer.forget_decoder()
    assert torch.equal(tokenizer.encode(torch.zeros(1, 80, 80, 3, dtype=torch.uint8)), codes)


def test_that_the_published_sizes_are_the_defaults() -> None:
    config = Emu3VisionConfig()
    assert (config.patch, config.vocabulary_size) == (8, 32768)
    assert Emu3VisionConfig.read({"ch": 32, "ch_mult": [1, 2], "z_channels": 8}) == (
        Emu3VisionConfig(base_channels=32, channel_multiplier=(1, 2), latent_channels=8)
    )


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 81, 80, 3, dtype=torch.uint8),
        torch.zeros(1, 80, 80, 3),
        torch.zeros(80, 80, 3, dtype=torch.uint8),
    ],
)
def test_that_images_of_another_shape_are_refused(images: torch.Tensor) -> None:
    tokenizer = Emu3ImageTokenizer(
        Emu3VisionConfig(base_channels=32, channel_multiplier=(1, 1, 1, 2), num_res_blocks=1)
    )
    with pytest.raises(ImageTokenizerError, match=r"sides multiples of 8: resize them first"):
        tokenizer.encode(images)
