"""Training of the image tokenizer on images of all cameras."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import trange

from dfm_vla_ros.model.fsq import FsqTokenizer, ImageTokenizerError
from dfm_vla_ros.training.config import VisionConfig


def fit_image_tokenizer(images: Tensor, steps: int, seed: int) -> FsqTokenizer:
    """Return a tokenizer for square images of this size, trained with the default settings.

    Raises:
        ImageTokenizerError: the size is no multiple of a patch.
    """
    size, network = images.shape[2], VisionConfig().network
    if size % network.patch:
        raise ImageTokenizerError(
            f"images are {size} px, expected a multiple of the patch, {network.patch} px: "
            "resize them first"
        )
    config = VisionConfig(replace(network, image_size=size), steps=steps)
    return train_image_tokenizer(images, config, seed)


def train_image_tokenizer(
    images: Tensor, config: VisionConfig, seed: int, device: str | torch.device = "cpu"
) -> FsqTokenizer:
    """Return a tokenizer that reconstructs ``images`` (V, M, S, S, 3) uint8.

    The squared error of a pixel is weighted by its deviation from the view's median image, since
    the objects that matter cover few pixels and the table many.
    """
    torch.manual_seed(seed)
    network = FsqTokenizer(config.network).to(device).train()
    optimiser = torch.optim.AdamW(network.parameters(), config.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, config.steps)
    weights = _weights(images)
    progress = trange(config.steps, desc="image tokenizer", unit="step", mininterval=2)
    for _ in progress:
        view = torch.randint(images.shape[0], (config.batch,))
        index = torch.randint(images.shape[1], (config.batch,))
        batch = images[view, index].to(device).permute(0, 3, 1, 2).float() / 255
        weight = weights[view, index].to(device).float()[:, None] / 255
        with torch.autocast(batch.device.type, torch.bfloat16):
            error = (network(batch) - batch).square()
        loss = (weight * error).mean() / weight.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        progress.set_postfix(loss=f"{float(loss.detach()):.5f}", refresh=False)
    return network.to("cpu").eval().requires_grad_(False)


def _weights(images: Tensor) -> Tensor:
    """Return uint8 (V, M, S, S): 16 plus four times the deviation from the median image."""
    weights = torch.empty(images.shape[:-1], dtype=torch.uint8)
    for view, frames in enumerate(images):
        parts = [(16 + 4 * part).clamp(max=255).byte() for part in deviations(frames)]
        weights[view] = torch.cat(parts)
    return weights


def deviations(frames: Tensor, batch: int = 256) -> Iterator[Tensor]:
    """Yield what each pixel differs from the view's median image by, int32 (<= batch, S, S).

    Each image is first shifted by its own median colour: where table and light differ between
    episodes, all of the table would count as an object.

    Args:
        frames: (M, S, S, 3) uint8 of one view; about 200 of them make the median.
        batch: frames at a time.
    """
    median = _levelled(frames[:: max(1, len(frames) // 200)]).median(dim=0).values
    for part in frames.split(batch):
        yield (_levelled(part) - median).abs().amax(-1)


def _levelled(frames: Tensor) -> Tensor:
    """Return ``frames`` (M, S, S, 3) as int32 less each one's median colour."""
    colours = frames.flatten(1, 2).median(dim=1).values
    return frames.int() - colours[:, None, None].int()
