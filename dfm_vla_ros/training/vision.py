"""Training of the image tokenizer on images of all cameras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import trange

from dfm_vla_ros.data.dataset import open_datasets
from dfm_vla_ros.data.format import DatasetError, Episode
from dfm_vla_ros.model.vision import FsqTokenizer, ImageTokenizerError
from dfm_vla_ros.training.config import VisionConfig
from dfm_vla_ros.training.frames import EpisodeSource, first_of_each_task, sample_images


def fit_image_tokenizer(images: Tensor, steps: int, seed: int) -> FsqTokenizer:
    """Return a tokenizer for square images of this size, trained with the default settings."""
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


HELD_OUT = 5
"""Every so many-th episode of a task is measured, the others are trained on."""
CHANGING = 25
"""A pixel counts as changing from this deviation [of 255] from the camera's median image."""
BATCH = 64


@dataclass(frozen=True)
class ImageQuality:
    """One camera, or all of them together.

    Attributes:
        camera: its name, or "all".
        images: how many were measured.
        tokens: of an image.
        vocabulary_size: codes there are.
        psnr_db: -10 log10 of the mean squared error of RGB in [0, 1], over all images.
        worst_psnr_db: of the worst image.
        changing_psnr_db: over the changing pixels alone; None if there are none.
        changing: share of the changing pixels.
        used: share of the codes that occur.
        perplexity: exp of the entropy of the codes, the number of codes that are used evenly.
    """

    camera: str
    images: int
    tokens: int
    vocabulary_size: int
    psnr_db: float
    worst_psnr_db: float
    changing_psnr_db: float | None
    changing: float
    used: float
    perplexity: float


@dataclass
class _Sums:
    """Of a view: per-image error (M,), errors and count of changing pixels, counts of codes."""

    error: Tensor
    changing_error: float
    changing: float
    codes: Tensor


def measure_images(
    tokenizer: FsqTokenizer, images: Tensor, cameras: Sequence[str]
) -> list[ImageQuality]:
    """Return a row for each camera and one for all of images (V, M, S, S, 3) uint8 RGB."""
    parts = [_sums(tokenizer, view) for view in images]
    rows = [_row(tokenizer, name, [part]) for name, part in zip(cameras, parts, strict=True)]
    return [*rows, _row(tokenizer, "all", parts)]


def _sums(tokenizer: FsqTokenizer, view: Tensor) -> _Sums:
    counts = torch.zeros(tokenizer.config.vocabulary_size, dtype=torch.long)
    errors, changing_error, changing = [], 0.0, 0.0
    for batch, deviation in zip(view.split(BATCH), deviations(view, BATCH), strict=True):
        codes = tokenizer.encode(batch)
        counts += codes.flatten().bincount(minlength=len(counts))
        error = (tokenizer.decode(codes) - batch / 255).square().mean(-1)
        mask = deviation > CHANGING
        errors.append(error.mean((1, 2)))
        changing_error += float(error[mask].double().sum())
        changing += float(mask.sum())
    return _Sums(torch.cat(errors).double(), changing_error, changing, counts)


def _row(tokenizer: FsqTokenizer, camera: str, parts: Sequence[_Sums]) -> ImageQuality:
    config = tokenizer.config
    error = torch.cat([part.error for part in parts])
    counts = sum(part.codes for part in parts)
    changing = sum(part.changing for part in parts)
    changing_error = sum(part.changing_error for part in parts)
    return ImageQuality(
        camera,
        len(error),
        config.grid**2,
        config.vocabulary_size,
        psnr_db(float(error.mean())),
        psnr_db(float(error.max())),
        psnr_db(changing_error / changing) if changing else None,
        changing / (len(error) * config.image_size**2),
        float((counts > 0).double().mean()),
        perplexity(counts),
    )


def psnr_db(mean_squared_error: float) -> float:
    """Return -10 log10 of the error of values in [0, 1] [dB], at most 100."""
    return float(-10 * torch.tensor(max(mean_squared_error, 1e-10)).log10())


def perplexity(counts: Tensor) -> float:
    """Return exp(-sum p ln p) of the distribution that ``counts`` (K,) make."""
    shares = counts.double() / counts.sum()
    return float(torch.special.entr(shares).sum().exp())


def find_sources(data: Path, episodes: int) -> dict[str, list[EpisodeSource]]:
    """Return task -> its first ``episodes`` (0: all) of each data set in ``data``, by key."""
    tasks: dict[str, list[EpisodeSource]] = {}
    for dataset in open_datasets([data]):
        sources = [EpisodeSource(dataset, i) for i in first_of_each_task(dataset, episodes)]
        for source in sorted(sources, key=lambda source: source.task):
            tasks.setdefault(source.task, []).append(source)
    if not tasks:
        raise DatasetError(f"no episode in {data}; make some with dfm-vla collect")
    return tasks


def split_sources(
    tasks: dict[str, list[EpisodeSource]],
) -> tuple[list[EpisodeSource], dict[str, list[EpisodeSource]]]:
    """Return what to train on and every ``HELD_OUT``-th of each task, to measure on."""
    for task, sources in tasks.items():
        if len(sources) < HELD_OUT:
            raise DatasetError(
                f"{task} has {len(sources)} episodes: give at least {HELD_OUT}, every "
                f"{HELD_OUT}th is held out"
            )
    held = {task: sources[HELD_OUT - 1 :: HELD_OUT] for task, sources in tasks.items()}
    rest = [s for sources in tasks.values() for i, s in enumerate(sources, 1) if i % HELD_OUT]
    return rest, held


def load_images(
    sources: Sequence[EpisodeSource], cameras: Sequence[str], per_episode: int, seed: int
) -> Tensor:
    """Return ``per_episode`` random images of each camera and episode, (V, M, S, S, 3) uint8."""
    return sample_images(_checked(sources, cameras), cameras, per_episode, seed)


def _checked(sources: Sequence[EpisodeSource], cameras: Sequence[str]) -> Iterator[Episode]:
    first = None
    for source in sources:
        episode = source.dataset.episode(source.index, cameras)
        for camera in cameras:
            shape = episode.images[camera].shape[1:]
            first = first or shape
            if shape != first or shape[0] != shape[1]:
                raise DatasetError(
                    f"{source.dataset.folder}: {camera} has images {shape}, expected square ones, "
                    f"all of one size ({first[0]} px)"
                )
        yield episode
