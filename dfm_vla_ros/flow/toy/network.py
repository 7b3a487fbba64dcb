"""The one backbone of all toy decoders: a small transformer over the tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dfm_vla_ros.flow.losses import head_log_rates
from dfm_vla_ros.flow.schedules import MixtureSchedule
from dfm_vla_ros.flow.types import Prediction


class ToyNetwork(nn.Module):
    """(tokens, t) -> logits (B, N, K) and the head's raw rates (B, N).

    Args:
        length: N.
        vocabulary: K; one more input token stands for MASK or for the start.
        width: Of the residual stream.
        layers: Transformer blocks.
        group: Above 0 the network is autoregressive in groups of so many positions: a position
            sees the tokens of earlier groups alone. 0: it sees all.
    """

    def __init__(
        self, length: int, vocabulary: int, width: int = 64, layers: int = 2, group: int = 0
    ) -> None:
        super().__init__()
        self.extra_token, self.group = vocabulary, group
        self.embedding = nn.Embedding(vocabulary + 1, width)
        self.position = nn.Parameter(0.5 * torch.randn(length, width))
        self.time = nn.Linear(8, width)
        self.blocks = nn.ModuleList(Block(width, heads=4) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary + 1)
        self.register_buffer("mask", group_mask(length, group) if group else None)

    def forward(self, tokens: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, N, K) and raw rates (B, N)."""
        if self.group:
            start = tokens.new_full((len(tokens), self.group), self.extra_token)
            tokens = torch.cat([start, tokens[:, : -self.group]], 1)
        hidden = self.embedding(tokens) + self.position + self.time(waves(t)).unsqueeze(1)
        for block in self.blocks:
            hidden = block(hidden, self.mask)
        out = self.head(self.norm(hidden))
        return out[..., :-1], out[..., -1]

    def denoise(self, tokens: Tensor, t: Tensor, prefix: Any) -> Tensor:
        """Return logits: a `Denoiser`."""
        return self(tokens, t)[0]

    def denoise_with_rates(
        self, schedule: MixtureSchedule, tokens: Tensor, t: Tensor, prefix: Any
    ) -> Prediction:
        """Return logits and the head's rates; bind the schedule to make it a `Denoiser`."""
        logits, raw = self(tokens, t)
        return Prediction(logits, head_log_rates(raw, t, schedule).exp())


class Block(nn.Module):
    """Pre-norm attention and MLP.

    Args:
        width: Of the residual stream.
        heads: Of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Return (B, N, width)."""
        batch, length, width = hidden.shape
        mixed = self.queries_keys_values(self.norms[0](hidden))
        parts = mixed.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(*parts, attn_mask=mask)
        hidden = hidden + self.project(attended.transpose(1, 2).reshape(batch, length, width))
        return hidden + self.mlp(self.norms[1](hidden))


def group_mask(length: int, group: int) -> Tensor:
    """Return (N, N) bool, true where a position may attend to another's (shifted) input."""
    block = torch.arange(length) // group
    return block.unsqueeze(-1) >= block


def waves(t: Tensor) -> Tensor:
    """Return features of time, (B,) -> (B, 8)."""
    phase = t.unsqueeze(-1) * math.pi * torch.tensor([0.5, 1.0, 2.0, 4.0], device=t.device)
    return torch.cat([phase.sin(), phase.cos()], -1)
