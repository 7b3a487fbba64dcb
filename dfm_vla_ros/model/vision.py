"""Emu3's image tokenizer: transformers' ``Emu3VQVAE``, 8 x 8 pixels a code of 32,768."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Emu3VQVAE, Emu3VQVAEConfig

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


# Of BAAI's configuration_emu3visionvq.py; transformers has other names for the same numbers.
BAAI_NAMES = {
    "z_channels": "latent_channels",
    "ch": "base_channels",
    "ch_mult": "channel_multiplier",
}
# Of BAAI's modeling_emu3visionvq.py, to the modules of transformers.
RENAMED = (
    (r"^(encoder|decoder)\.(down|up)\.", r"\1.\2_block.\2."),
    (r"^(encoder|decoder)\.mid\.attn_1\.norm\.", r"\1.middle_block.attn_norm."),
    (r"^(encoder|decoder)\.mid\.", r"\1.middle_block."),
    (r"\.attn\.(\d+)\.norm\.", r".attn_norms.\1."),
    (r"\.(attn\.\d+|attn_1)\.([qkv])\.", r".\1.\2_proj."),
    (r"\.(attn\.\d+|attn_1)\.proj_out\.", r".\1.out_proj."),
)
PROJECTION = re.compile(r"\.(attn\.\d+|attn_1)\.\w+_proj\.weight$|\.out_proj\.weight$")


@dataclass(frozen=True)
class Emu3VisionConfig:
    """Sizes of the network; the defaults are the published ones."""

    codebook_size: int = 32_768
    embed_dim: int = 4
    latent_channels: int = 4
    in_channels: int = 3
    out_channels: int = 3
    temporal_downsample_factor: int = 4
    base_channels: int = 256
    channel_multiplier: tuple[int, ...] = (1, 2, 2, 4)
    num_res_blocks: int = 2
    attn_resolutions: tuple[int, ...] = (3,)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Emu3VisionConfig:
        """Return the sizes in a ``config.json`` of transformers or of BAAI's VisionTokenizer."""
        named = {BAAI_NAMES.get(key, key): value for key, value in content.items()}
        given = {key: named[key] for key in cls.__dataclass_fields__ if key in named}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})

    @property
    def patch(self) -> int:
        """Side of the square of pixels that a code stands for."""
        return 2 ** (len(self.channel_multiplier) - 1)

    @property
    def vocabulary_size(self) -> int:
        """Number of codes."""
        return self.codebook_size


class Emu3ImageTokenizer(nn.Module):
    """Images to codes, and back for a look at what they keep.

    Emu3 encodes an image as a clip of four equal frames. They are equal until the convolutions
    over time begin, so here one goes through the convolutions over space.
    """

    def __init__(self, config: Emu3VisionConfig) -> None:
        """Make the network of ``config``."""
        super().__init__()
        self.config = config
        sizes = {key: getattr(config, key) for key in config.__dataclass_fields__}
        width = config.base_channels * config.channel_multiplier[-1]
        self.vqvae = Emu3VQVAE(Emu3VQVAEConfig(**sizes, hidden_size=width)).eval()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return codes (B, H * W / patch^2), int64, row by row.

        Args:
            images: (B, H, W, 3) uint8 RGB, sides multiples of ``patch``.

        Raises:
            ImageTokenizerError: another shape or type.
        """
        patch = self.config.patch
        sound = images.ndim == 4 and images.shape[3] == 3 and images.dtype == torch.uint8
        if not sound or images.shape[1] % patch or images.shape[2] % patch:
            raise ImageTokenizerError(
                f"images are {images.dtype} {tuple(images.shape)}, expected torch.uint8 "
                f"(B, H, W, 3), sides multiples of {patch}: resize them first"
            )
        network = self.vqvae
        pixels = images.permute(0, 3, 1, 2).to(network.dtype) / 127.5 - 1
        latent = network.quant_conv(self._clip(pixels)).transpose(1, 2)
        return network.quantize(latent).flatten(1)

    def _clip(self, pixels: Tensor) -> Tensor:
        """Return (B, C, 1, rows, columns) of a clip of equal frames, ``pixels`` (B, 3, H, W)."""
        encoder = self.vqvae.encoder
        hidden = encoder.middle_block(encoder.down_block(encoder.conv_in(pixels)))
        hidden = encoder.conv_out(nn.functional.silu(encoder.norm_out(hidden)))
        frames = self.config.temporal_downsample_factor
        clip = hidden.unsqueeze(2).expand(-1, -1, frames, -1, -1)
        for layer in encoder.time_conv:
            clip = nn.functional.silu(layer(clip))
        for layer in encoder.time_res_stack:
            clip = layer(clip)
        return clip

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return images (B, H, W, 3) uint8 of ``codes`` (B, rows, columns)."""
        pixels = self.vqvae.decode(codes).permute(0, 2, 3, 1)
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def forget_decoder(self) -> None:
        """Drop what only `decode` needs, half of the weights."""
        self.vqvae.decoder = self.vqvae.post_quant_conv = nn.Identity()


def transformers_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of an Emu3 image tokenizer under the names of ``Emu3VQVAE``.

    Args:
        tensors: under those names; under BAAI's (``Emu3-VisionTokenizer``), whose attention is
            made of convolutions of size 1; or within a whole ``Emu3ForConditionalGeneration``,
            of which the rest is left out.
    """
    inner = {k: v for k, v in tensors.items() if k.startswith("model.vqmodel.")}
    if inner:
        return {key.removeprefix("model.vqmodel."): value for key, value in inner.items()}
    found = {}
    for key, value in tensors.items():
        for old, new in RENAMED:
            key = re.sub(old, new, key)
        if PROJECTION.search(key) and value.ndim == 4:
            value = value[:, :, 0, 0]
        found[key] = value
    return found


class ObservationError(DfmVlaError):
    """An observation that the policy cannot use."""


def square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the centre square of ``image`` (H, W, 3) uint8, resized to (size, size, 3).

    Raises:
        ObservationError: another type or shape.
    """
    return fitted(image, size, size)


def fitted(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return the largest centred part of ``image`` (H, W, 3) in the shape of (height, width, 3).

    Raises:
        ObservationError: another type or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ObservationError(
            f"image is {image.dtype} {image.shape}, expected uint8 (H, W, 3): convert it to RGB"
        )
    high, wide = image.shape[:2]
    scale = min(high / height, wide / width)
    rows, columns = round(scale * height), round(scale * width)
    top, left = (high - rows) // 2, (wide - columns) // 2
    cut = image[top : top + rows, left : left + columns]
    if (rows, columns) == (height, width):
        return cut
    return cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA)


def check_observation(
    cameras: Sequence[str],
    joints: int,
    images: Mapping[str, NDArray[np.uint8]],
    positions: NDArray[np.float64],
    commanded: NDArray[np.float64],
) -> None:
    """Raise ObservationError unless every camera is there and the joints are (D,)."""
    missing = [camera for camera in cameras if camera not in images]
    if missing:
        raise ObservationError(f"no image of camera {missing[0]}; needed: {tuple(cameras)}")
    for name, values in (("positions", positions), ("commanded", commanded)):
        if np.shape(values) != (joints,):
            raise ObservationError(f"{name} have shape {np.shape(values)}, expected {(joints,)}")


def check_poses(names: Sequence[str], poses: NDArray[np.float64] | None) -> None:
    """Raise ObservationError unless ``poses`` are (P,), a number for each of ``names``."""
    if poses is None:
        raise ObservationError(
            "no object poses, which this checkpoint sees instead of images; only the twin knows "
            "them: run it with dfm-vla eval, or give a checkpoint with cameras"
        )
    if np.shape(poses) != (len(names),):
        raise ObservationError(
            f"poses have shape {np.shape(poses)}, expected {(len(names),)}: {', '.join(names)}"
        )
