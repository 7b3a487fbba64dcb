"""Muon for the transformer's matrices, AdamW for the rest, one cosine schedule for both."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dfm_vla_ros.training.config import TrainConfig


class Optimiser:
    """Two optimisers stepped together, with gradient clipping and a schedule."""

    def __init__(self, network: nn.Module, config: TrainConfig) -> None:
        """Share the parameters of ``network`` out."""
        matrices, rest = split_parameters(network)
        self._parameters = [*matrices, *rest]
        self._clip = config.clip
        self._parts = [
            torch.optim.Muon(
                matrices,
                lr=config.muon_lr,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(
                rest, lr=config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay
            ),
        ]
        self._schedules = [
            torch.optim.lr_scheduler.LambdaLR(
                part, lambda step: warmup_cosine(step, config.warmup_steps, config.steps)
            )
            for part in self._parts
        ]

    def step(self, loss: Tensor) -> None:
        """Descend along the clipped gradient of ``loss`` and advance the schedule."""
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, self._clip)
        for part, schedule in zip(self._parts, self._schedules, strict=True):
            part.step()
            part.zero_grad()
            schedule.step()


def split_parameters(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return (matrices inside the transformer, everything else)."""
    matrices, rest = [], []
    for name, parameter in network.named_parameters():
        inside = parameter.ndim == 2 and name.startswith("backbone.layers")
        (matrices if inside else rest).append(parameter)
    return matrices, rest


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Return the factor on the peak rate: linear warm-up, then a cosine to 1%."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2
