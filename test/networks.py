"""Tiny networks of the real classes, with weights large enough for the tokens to matter."""

from __future__ import annotations

import torch
from small import small_checkpoint

from dfm_vla_ros.model.refiner import Prefix, Refiner
from dfm_vla_ros.model.unified import UnifiedConfig, UnifiedRefiner

VOCABULARY, ACTIONS, TOKENS, PREFIX = 512, 60, 20, 37
MASK_ID = 511


def unified(seed: int = 0, **switches: object) -> UnifiedRefiner:
    """Return a refiner of three layers, four heads in two groups."""
    torch.manual_seed(seed)
    sizes = {
        "vocabulary_size": VOCABULARY,
        "width": 64,
        "mlp_width": 96,
        "layers": 3,
        "heads": 4,
        "key_value_heads": 2,
        "max_positions": 512,
    }
    config = UnifiedConfig(**{**sizes, **switches})
    refiner = UnifiedRefiner(config, range(300, 300 + ACTIONS), TOKENS, MASK_ID).eval()
    with torch.no_grad():
        for weight in refiner.parameters():
            if weight.ndim == 2:
                weight *= 4.0
    return refiner.requires_grad_(False)


def prefix_ids(batch: int = 2, seed: int = 1) -> torch.Tensor:
    """Return random ids (B, P)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 300, (batch, PREFIX), generator=generator)


def action_tokens(count: int, batch: int = 2, seed: int = 2) -> torch.Tensor:
    """Return random tokens (count, B, N), each differing from the one before in a few places."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(0, ACTIONS, (batch, TOKENS), generator=generator)]
    for _ in range(count - 1):
        moved = torch.rand((batch, TOKENS), generator=generator) < 0.2
        other = torch.randint(0, ACTIONS, (batch, TOKENS), generator=generator)
        rows.append(torch.where(moved, other, rows[-1]))
    return torch.stack(rows)


def small(grouping: int = 14) -> tuple[Refiner, Prefix]:
    """Return today's small refiner and a random prefix for it, of one sample."""
    refiner = small_checkpoint(grouping=grouping).refiner
    c = refiner.config
    generator = torch.Generator().manual_seed(3)

    def random(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, (1, *shape), generator=generator)

    return refiner, Prefix(
        random(c.text_vocabulary, c.text_length),
        random(4096, c.views, c.grid**2),
        random(c.proprioception_vocabulary, 2 * c.action_dim),
    )
