"""Episodes as training frames: image codes, joints, what is still to go at every step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfm_vla_ros.data.episodes import Episode
from dfm_vla_ros.model.fsq import FsqTokenizer
from dfm_vla_ros.tokens.chunks import next_targets


@dataclass(frozen=True)
class Frames:
    """F observations with their labels.

    Attributes:
        codes: (F, V, G * G) int16 image tokens.
        positions: (F, D) measured joints [rad or m].
        commanded: (F, D) commanded joints.
        targets: (F, H, D) clean targets of the next H steps.
        sentence: (F,) index into ``sentences``.
        episode: (F,) number of the episode.
        sentences: the distinct instructions.
        tasks: task -> instruction.
    """

    codes: Tensor
    positions: NDArray[np.float64]
    commanded: NDArray[np.float64]
    targets: NDArray[np.float64]
    sentence: NDArray[np.int64]
    episode: NDArray[np.int64]
    sentences: tuple[str, ...]
    tasks: dict[str, str]


def sample_images(
    episodes: Iterable[Episode], cameras: Sequence[str], per_episode: int, seed: int
) -> Tensor:
    """Return ``per_episode`` images of each camera and episode, (V, M, S, S, 3) uint8."""
    rng = np.random.default_rng(seed)
    views: list[list[NDArray[np.uint8]]] = [[] for _ in cameras]
    for episode in episodes:
        chosen = rng.integers(len(episode.positions), size=per_episode)
        for view, camera in zip(views, cameras, strict=True):
            view.append(episode.images[camera][chosen])
    return torch.from_numpy(np.stack([np.concatenate(view) for view in views]))


def make_frames(
    episodes: Iterable[Episode], cameras: Sequence[str], tokenizer: FsqTokenizer, horizon: int
) -> Frames:
    """Return all frames of ``episodes``; images are reduced to codes one episode at a time."""
    columns: dict[str, list] = {key: [] for key in ("codes", "positions", "commanded", "targets")}
    sentence, number, tasks = [], [], {}
    sentences: dict[str, int] = {}
    for i, episode in enumerate(episodes):
        length = len(episode.positions)
        columns["codes"].append(_codes(episode, cameras, tokenizer))
        columns["positions"].append(episode.positions)
        columns["commanded"].append(episode.commanded)
        columns["targets"].append(next_targets(episode.targets, horizon))
        sentence += [sentences.setdefault(episode.instruction, len(sentences))] * length
        number += [i] * length
        tasks.setdefault(episode.task, episode.instruction)
    arrays = {k: np.concatenate(v) for k, v in columns.items() if k != "codes"}
    return Frames(
        torch.cat(columns["codes"]),
        sentence=np.array(sentence),
        episode=np.array(number),
        sentences=tuple(sentences),
        tasks=tasks,
        **arrays,
    )


def _codes(episode: Episode, cameras: Sequence[str], tokenizer: FsqTokenizer) -> Tensor:
    views = [tokenizer.encode(torch.from_numpy(episode.images[camera])) for camera in cameras]
    return torch.stack(views, dim=1).to(torch.int16)
