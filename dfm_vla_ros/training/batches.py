"""Batches: a clean prefix and the noised action tokens that go with it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dfm_vla_ros.model.refiner import Prefix
from dfm_vla_ros.tokens.action import ActionTokenizer
from dfm_vla_ros.tokens.proprioception import ProprioceptionTokenizer
from dfm_vla_ros.tokens.text import TextTokenizer
from dfm_vla_ros.training.frames import Frames


class TokenFrames:
    """All frames as token tensors on one device; indexing gives a prefix and its x_1."""

    def __init__(
        self,
        frames: Frames,
        action: ActionTokenizer,
        proprioception: ProprioceptionTokenizer,
        text: TextTokenizer,
        device: str,
    ) -> None:
        """Encode joints, sentences and targets once."""
        joints = [proprioception.encode(q) for q in (frames.positions, frames.commanded)]
        words = np.stack([text.encode(s) for s in frames.sentences])[frames.sentence]
        actions = action.encode(frames.targets, frames.commanded)
        self.codes = frames.codes.to(device)
        self.proprioception = torch.from_numpy(np.concatenate(joints, axis=1)).to(device)
        self.text = torch.from_numpy(words).to(device)
        self.actions = torch.from_numpy(actions.reshape(len(actions), -1)).to(device)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.actions)

    def batch(self, index: Tensor) -> tuple[Prefix, Tensor]:
        """Return the prefixes of ``index`` (B,) and their action tokens x_1 (B, N)."""
        prefix = Prefix(self.text[index], self.codes[index].long(), self.proprioception[index])
        return prefix, self.actions[index]


def sample_times(batch: int, replicas: int, power: float, generator: torch.Generator) -> Tensor:
    """Return t (B, R): 0 for the first replica, u ** power for the others, at most 0.999."""
    t = torch.rand(batch, replicas, generator=generator) ** power
    t[:, 0] = 0
    return t.clamp(max=0.999)


def smoothed_labels(vocabulary_size: int, deviation: float) -> Tensor:
    """Return (K, K): row i is a Gaussian over bins around i, ``deviation`` bins wide."""
    if deviation <= 0:
        return torch.eye(vocabulary_size)
    bins = torch.arange(vocabulary_size, dtype=torch.float32)
    return torch.softmax(-((bins[:, None] - bins) ** 2) / (2 * deviation**2), dim=-1)


def blank_patches(codes: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Return ``codes`` with ``share`` of the patches set to code 0."""
    if share <= 0:
        return codes
    kept = torch.rand(codes.shape, generator=generator) >= share
    return codes * kept.to(codes.device)
