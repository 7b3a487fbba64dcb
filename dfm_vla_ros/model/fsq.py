"""Image tokens by finite scalar quantisation (FSQ, arXiv 2309.15505): no codebook to collapse."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfm_vla_ros.errors import DfmVlaError


class ImageTokenizerError(DfmVlaError):
    """Images that this tokenizer cannot take."""


@dataclass(frozen=True)
class FsqConfig:
    """Size of the image tokenizer.

    Attributes:
        image_size: height = width [px], a multiple of ``patch``.
        patch: side of the square that becomes one token [px].
        levels: quantisation levels of each latent channel; their product is the vocabulary.
        hidden: channels of the convolutions.
    """

    image_size: int = 96
    patch: int = 8
    levels: tuple[int, ...] = (8, 8, 8, 8)
    hidden: int = 128

    @property
    def grid(self) -> int:
        """Tokens along one side."""
        return self.image_size // self.patch

    @property
    def vocabulary_size(self) -> int:
        """Number of codes."""
        return int(torch.tensor(self.levels).prod())


class FsqTokenizer(nn.Module):
    """A patch encoder, rounding, and a decoder, which acting does not need.

    Each latent channel c is squashed to ``u = (L_c - 1)(tanh(z_c) + 1) / 2`` and rounded to one of
    L_c integers; the gradient passes straight through the rounding.
    """

    def __init__(self, config: FsqConfig) -> None:
        """Make the layers of ``config``."""
        super().__init__()
        self.config = config
        pixels, hidden, channels = 3 * config.patch**2, config.hidden, len(config.levels)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(config.patch),
            nn.Conv2d(pixels, hidden, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden, channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden, pixels, 1),
            nn.PixelShuffle(config.patch),
        )
        levels = torch.tensor(config.levels)
        self.register_buffer("levels", levels, persistent=False)
        strides = torch.cat([torch.ones(1, dtype=torch.long), levels.cumprod(0)[:-1]])
        self.register_buffer("strides", strides, persistent=False)

    def quantise(self, images: Tensor) -> Tensor:
        """Return integers (B, C, G, G) as floats, with straight-through gradient.

        Args:
            images: (B, 3, S, S) in [0, 1].
        """
        top = (self.levels - 1).view(1, -1, 1, 1)
        u = (torch.tanh(self.encoder(images - 0.5)) + 1) * top / 2
        return u + (u.round() - u).detach()

    def forward(self, images: Tensor) -> Tensor:
        """Return the reconstruction (B, 3, S, S) of ``images``."""
        top = (self.levels - 1).view(1, -1, 1, 1)
        return self.decoder(2 * self.quantise(images) / top - 1) + 0.5

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return codes (B, G * G), int64, row by row.

        Args:
            images: (B, S, S, 3) uint8 RGB.

        Raises:
            ImageTokenizerError: another shape or type.
        """
        size = self.config.image_size
        if images.dtype != torch.uint8 or images.shape[1:] != (size, size, 3):
            raise ImageTokenizerError(
                f"images are {images.dtype} {tuple(images.shape)}, expected torch.uint8 "
                f"(B, {size}, {size}, 3): resize them first"
            )
        digits = self.quantise(images.permute(0, 3, 1, 2).float() / 255).long()
        return (digits * self.strides.view(1, -1, 1, 1)).sum(1).flatten(1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the images that ``codes`` (B, G * G) stand for, (B, S, S, 3) in [0, 1]."""
        grid = self.config.grid
        digits = split_codes(codes, self.config.levels).unflatten(1, (grid, grid))
        latent = 2 * digits / (self.levels - 1) - 1
        return (self.decoder(latent.permute(0, 3, 1, 2)) + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


def split_codes(codes: Tensor, levels: tuple[int, ...]) -> Tensor:
    """Return the level of every channel, (..., C), of ``codes`` (...)."""
    digits = []
    for level in levels:
        digits.append(codes % level)
        codes = codes // level
    return torch.stack(digits, dim=-1)
