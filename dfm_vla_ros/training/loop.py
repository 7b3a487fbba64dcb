"""The training run: image tokenizer, tokens, refiner, checkpoints."""

from __future__ import annotations

import copy
import csv
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from dfm_vla_ros.data.episodes import Episode, load_folder
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.model.checkpoint import Checkpoint, CheckpointConfig
from dfm_vla_ros.model.fsq import FsqTokenizer
from dfm_vla_ros.model.image_tokenizer import load_image_tokenizer
from dfm_vla_ros.model.refiner import Prefix, Refiner, RefinerConfig
from dfm_vla_ros.robot.joints import ARM_JOINTS, ARMS, CAMERAS, JOINT_NAMES
from dfm_vla_ros.tokens.action import ActionTokenizer
from dfm_vla_ros.tokens.proprioception import ProprioceptionTokenizer
from dfm_vla_ros.tokens.text import TextTokenizer
from dfm_vla_ros.training.batches import (
    TokenFrames,
    blank_patches,
    sample_times,
    smoothed_labels,
)
from dfm_vla_ros.training.config import TrainConfig
from dfm_vla_ros.training.frames import Frames, make_frames, sample_images
from dfm_vla_ros.training.optimiser import Optimiser
from dfm_vla_ros.training.vision import train_image_tokenizer

CONTROL_PERIOD_S = 0.1


class TrainingFailed(DfmVlaError):
    """The loss is not finite."""


def train(config: TrainConfig) -> Path:
    """Run ``config`` and return the checkpoint folder."""
    torch.set_num_threads(config.threads)
    checkpoint, frames = prepare(config)
    trainer = Trainer(config, checkpoint, frames)
    trainer.run()
    return Path(config.out)


def episodes(config: TrainConfig) -> Iterator[Episode]:
    """Yield the episodes of all data folders, at most ``config.episodes`` of each."""
    limit = config.episodes or None
    return chain.from_iterable(islice(load_folder(Path(f)), limit) for f in config.data)


def prepare(config: TrainConfig) -> tuple[Checkpoint, Frames]:
    """Return an untrained refiner with its fitted tokenizers, and the frames to train on."""
    vision = _image_tokenizer(config)
    frames = make_frames(episodes(config), CAMERAS, vision, config.horizon)
    action = ActionTokenizer.fit(
        frames.targets,
        frames.commanded,
        JOINT_NAMES,
        [joints[-1] for joints in ARM_JOINTS.values()],
        CONTROL_PERIOD_S,
        config.action_vocabulary,
    )
    text = TextTokenizer.fit(frames.sentences, config.network.text_length)
    proprioception = _fit_proprioception(frames)
    torch.manual_seed(config.seed)
    sizes = RefinerConfig(
        views=len(CAMERAS),
        grid=vision.config.grid,
        levels=vision.config.levels,
        text_vocabulary=text.vocabulary_size,
        text_length=text.length,
        proprioception_vocabulary=proprioception.vocabulary_size,
        arms=len(ARMS),
        horizon=config.horizon,
        action_dim=len(JOINT_NAMES),
        action_vocabulary=config.action_vocabulary,
        grouping=config.network.grouping,
        width=config.network.width,
        layers=config.network.layers,
        heads=config.network.heads,
    )
    described = CheckpointConfig(
        sizes, vision.config, CAMERAS, frames.tasks, path=config.path, decoder=config.decoder
    )
    parts = (Refiner(sizes), vision, action, proprioception, text)
    return Checkpoint(described, *parts), frames


def _image_tokenizer(config: TrainConfig) -> FsqTokenizer:
    if config.vision.checkpoint:
        return load_image_tokenizer(Path(config.vision.checkpoint))[0]
    images = sample_images(
        episodes(config), CAMERAS, config.vision.images_per_episode, config.seed
    )
    return train_image_tokenizer(images, config.vision, config.seed)


def _fit_proprioception(frames: Frames) -> ProprioceptionTokenizer:
    """Bounds of the joints seen in the data, with a tenth of their span (0.01 at least) around."""
    seen = np.concatenate([frames.positions, frames.commanded])
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = np.maximum(0.1 * (high - low), 0.01)
    return ProprioceptionTokenizer(
        JOINT_NAMES, np.round(low - margin, 4), np.round(high + margin, 4)
    )


class Trainer:
    """Trains a checkpoint's refiner; what is saved and evaluated is its moving average."""

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint, frames: Frames) -> None:
        """Tokenise the frames and hold some episodes out."""
        self.config = config
        self.checkpoint = checkpoint
        tokenizers = (checkpoint.action, checkpoint.proprioception, checkpoint.text)
        self.frames = TokenFrames(frames, *tokenizers, config.device)
        self.train_index, self.held_index = _split(frames.episode, config.held_out, config.seed)
        self.network = checkpoint.refiner.to(config.device).train()
        # On a CPU the backward pass of plain attention is 1.6x faster than that of SDPA.
        if config.device == "cpu":
            self.network.backbone.set_attn_implementation("eager")
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = Optimiser(self.network, config)
        k = config.action_vocabulary
        self.labels = smoothed_labels(k, config.smoothing_bins).to(config.device)
        self.path = config.path.build(k).to(config.device)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.began = time.monotonic()

    def run(self) -> None:
        """Take all steps, logging and saving on the way."""
        log = Path(str(self.config.out) + ".csv")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["step", "seconds", "loss", "held_loss_t0", "held_error_bins_t0"])
            progress = tqdm(range(1, self.config.steps + 1), desc="refiner", mininterval=5)
            mean = 0.0
            for step in progress:
                loss = self.step(step)
                mean = loss if step == 1 else 0.98 * mean + 0.02 * loss
                progress.set_postfix(loss=f"{mean:.3f}", refresh=False)
                if step % self.config.save_every == 0:
                    self._record(rows, file, step, mean)
            if self.config.steps % self.config.save_every or not self.config.steps:
                self._record(rows, file, self.config.steps, mean)

    def step(self, number: int) -> float:
        """Take one optimiser step and return its loss."""
        c = self.config
        chosen = torch.randint(len(self.train_index), (c.batch,), generator=self.generator)
        prefix, target = self.frames.batch(self.train_index[chosen])
        codes = blank_patches(prefix.codes, c.code_dropout, self.generator)
        prefix = Prefix(prefix.text, codes, prefix.proprioception)
        loss = self._loss(self.network, prefix, target)
        if not torch.isfinite(loss):
            raise TrainingFailed(f"loss is {float(loss)} at step {number}: lower lr or muon_lr")
        self.optimiser.step(loss)
        decay = min(c.ema, (number + 1) / (number + 10))
        _follow(self.average, self.network, decay)
        return float(loss.detach())

    def _loss(self, network: nn.Module, prefix: Prefix, target: Tensor) -> Tensor:
        """Cross-entropy of x_1 given x_t, over all replicas: L_ce of the embedding-guided path."""
        c = self.config
        times = sample_times(len(target), c.replicas, c.time_power, self.generator)
        repeated = target.repeat_interleave(c.replicas, dim=0)
        noised = self.path.sample(repeated, times.flatten().to(c.device))
        noised = noised.view(len(target), c.replicas, -1)
        with torch.autocast(c.device, torch.bfloat16, enabled=c.bf16):
            logits = network(prefix, noised)
        labels = self.labels[target][:, None].expand_as(logits)
        return -(labels * torch.log_softmax(logits, dim=-1)).sum(-1).mean()

    @torch.no_grad()
    def held_out(self) -> tuple[float, float]:
        """Return the averaged network's loss and median error [bins] at t = 0 on held episodes."""
        losses, errors = [], []
        generator = torch.Generator().manual_seed(0)
        for index in self.held_index.split(256):
            prefix, target = self.frames.batch(index)
            k = self.config.action_vocabulary
            noise = torch.randint(k, target.shape, generator=generator).to(target.device)
            logs = torch.log_softmax(self.average(prefix, noise[:, None])[:, 0], dim=-1)
            losses.append(-(self.labels[target] * logs).sum(-1).mean(1))
            median = (logs.exp().cumsum(-1) < 0.5).sum(-1)
            errors.append((median - target).abs().float().mean(1))
        return float(torch.cat(losses).mean()), float(torch.cat(errors).mean())

    def _record(self, rows: csv.writer, file: object, step: int, loss: float) -> None:
        held, error = self.held_out() if len(self.held_index) else (float("nan"),) * 2
        seconds = time.monotonic() - self.began
        rows.writerow([step, f"{seconds:.0f}", f"{loss:.4f}", f"{held:.4f}", f"{error:.3f}"])
        file.flush()
        saved = copy.copy(self.checkpoint)
        saved.refiner = self.average
        saved.save(Path(self.config.out), _readme(self.config, step, seconds, held, error))


def _split(episode: np.ndarray, share: float, seed: int) -> tuple[Tensor, Tensor]:
    count = int(episode.max()) + 1
    held = np.random.default_rng(seed).permutation(count)[: round(share * count)]
    mask = np.isin(episode, held)
    return torch.from_numpy(np.flatnonzero(~mask)), torch.from_numpy(np.flatnonzero(mask))


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    pairs = zip(average.parameters(), network.parameters(), strict=True)
    slow, fast = map(list, zip(*pairs, strict=True))
    torch._foreach_lerp_(slow, fast, 1 - decay)


def _readme(config: TrainConfig, step: int, seconds: float, held: float, error: float) -> str:
    folders = ", ".join(Path(folder).name for folder in config.data)
    return (
        "# Checkpoint\n\n"
        f"Trained for {step} of {config.steps} steps ({seconds:.0f} s, {config.device}, "
        f"{config.threads} threads) on {folders}.\n\n"
        f"Held-out episodes at t = 0: loss {held:.4f}, median error {error:.2f} bins.\n"
    )
