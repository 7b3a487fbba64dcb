"""The networks whose decoding is timed: random weights at published sizes, or the shipped ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from dfm_vla_ros.model.backbones import UnifiedConfig, restore_buffers
from dfm_vla_ros.model.caching import Caching, ChunkCache
from dfm_vla_ros.model.checkpoint import Checkpoint
from dfm_vla_ros.model.incremental import Incremental
from dfm_vla_ros.model.refiner import Prefix, Refiner
from dfm_vla_ros.model.unified import UnifiedRefiner

TOKENS, JOINTS, VOCABULARY = 70, 14, 256
SIZES = {
    "tiny-emu3": UnifiedConfig(
        vocabulary_size=4096, width=64, mlp_width=128, layers=2, heads=4, key_value_heads=2
    ),
    "100m": UnifiedConfig(
        vocabulary_size=16_384, width=768, mlp_width=2304, layers=12, heads=12, key_value_heads=4
    ),
    "8.5b": UnifiedConfig(),
}


@dataclass(frozen=True)
class Network:
    """A network to time.

    Attributes:
        name: of the model.
        refiner: for the flow and for masked diffusion.
        causal: for autoregression: the same layers.
        prefixes: what ``prefill`` takes, one or several, used in turns.
        tokens: of a chunk.
    """

    name: str
    refiner: Incremental
    causal: Incremental
    prefixes: Sequence[Any]
    tokens: int = TOKENS


def make(name: str, device: str, prefix: int) -> Network:
    """Return a network of random weights on ``device``, for a prefix of so many positions."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    refiner = random_unified(SIZES[name], device, dtype)
    ids = torch.randint(0, 1024, (1, prefix), device=device)
    return Network(name, refiner, refiner, [ids])


class Lengthened(Refiner):
    """The small network with its prefix repeated until it has ``length`` positions.

    Copies with the positions of their originals leave what the prefix computes as it is; the
    actions weigh it the more against one another. So it predicts much as it does, at that cost.
    """

    length: int

    def prefill(
        self,
        prefix: Prefix,
        caching: Caching | None = None,
        validation_from: int | None = None,
        into: ChunkCache | None = None,
    ) -> ChunkCache:
        """Return the cache of the lengthened prefix; see `Refiner.prefill`."""
        c, once = self.config, self.embed_prefix(prefix)
        embedded = once.repeat(1, -(-self.length // c.prefix_length), 1)[:, : self.length]
        places = torch.arange(self.length, device=once.device) % c.prefix_length
        actions = torch.arange(c.action_length, device=once.device) + c.prefix_length
        return self.stack.prefill(
            embedded,
            c.action_length,
            False,
            caching or Caching(),
            validation_from,
            into,
            torch.cat([places, actions]),
        )


def small(
    checkpoint: Checkpoint,
    device: str,
    prefixes: Sequence[Prefix],
    length: int,
    a_step: bool = True,
) -> Network:
    """Return the shipped network at a prefix of ``length`` positions and 70 tokens.

    Args:
        checkpoint: the shipped one.
        device: "cpu" or "cuda".
        prefixes: of observations.
        length: positions that it is repeated to.
        a_step: whether the refiner has, as the shipped one, a position for each step of 14 joints,
            or one for each token, with a random embedding. A causal network that is to predict a
            token given all before it has one for each token in any case.
    """
    sizes = replace(checkpoint.config.refiner, horizon=TOKENS // JOINTS)
    refiner, causal = (
        _with_shipped_weights(Lengthened(replace(sizes, grouping=group)), checkpoint, device)
        for group in (JOINTS if a_step else 1, 1)
    )
    refiner.length = causal.length = length
    name = "small" if a_step else "small, a position a token"
    return Network(name, refiner, causal, prefixes)


def shipped(checkpoint: Checkpoint, device: str, prefixes: Sequence[Prefix]) -> Network:
    """Return the checkpoint as it is, for the ``prefixes`` of observations."""
    sizes = replace(checkpoint.config.refiner, grouping=1)
    causal = _with_shipped_weights(Refiner(sizes), checkpoint, device)
    tokens = sizes.horizon * sizes.action_dim
    return Network("small, as shipped", checkpoint.refiner, causal, prefixes, tokens)


def _with_shipped_weights(refiner: Refiner, checkpoint: Checkpoint, device: str) -> Refiner:
    """Copy what fits; of the table of positions the first ones."""
    with torch.no_grad():
        fresh = refiner.state_dict()
        for key, value in checkpoint.refiner.state_dict().items():
            if fresh[key].shape[1:] == value.shape[1:]:
                count = min(len(fresh[key]), len(value))
                fresh[key][:count] = value[:count]
    return refiner.to(device).eval().requires_grad_(False)


def random_unified(config: UnifiedConfig, device: str, dtype: torch.dtype) -> UnifiedRefiner:
    """Return a refiner whose weights are drawn on ``device``, one at a time."""
    with torch.device("meta"):
        refiner = UnifiedRefiner(config, range(1024, 1024 + VOCABULARY), TOKENS, 1023)
    for module in refiner.backbone.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            drawn = torch.empty(weight.shape, device=device, dtype=dtype)
            drawn = drawn.fill_(1.0) if weight.ndim == 1 else drawn.normal_(0, 0.02)
            setattr(module, name, nn.Parameter(drawn, requires_grad=False))
    restore_buffers(refiner.backbone, device)
    refiner.ids = refiner.ids.to(device)
    refiner.keep_rows()
    return refiner.eval()


def step_bytes(refiner: Incremental) -> int:
    """Return the bytes of weights that one refinement step reads: layers, norms, action rows."""
    read = sum(p.numel() * p.element_size() for p in refiner.layers.layers.parameters())
    head = getattr(refiner, "head_rows", None)
    return read + (0 if head is None else head.numel() * head.element_size())
