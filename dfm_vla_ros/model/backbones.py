"""The language models that a unified refiner can be: Emu3's, which UniVLA has, or a Llama."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn
from transformers import Emu3ForCausalLM, Emu3TextConfig, LlamaConfig, LlamaForCausalLM

from dfm_vla_ros.errors import DfmVlaError

Architecture = Literal["emu3", "llama"]
Attention = Literal["causal", "bidirectional", "full"]
Head = Literal["tied", "separate"]


class BackboneError(DfmVlaError):
    """Sizes or switches of a backbone that make no network."""


@dataclass(frozen=True)
class UnifiedConfig:
    """Sizes and switches; the defaults are UniVLA's model, 8.5 billion weights.

    Attributes:
        architecture: class of transformers: ``Emu3ForCausalLM`` or ``LlamaForCausalLM``.
        shift: whether position i predicts the token i + 1, as an autoregressive checkpoint does.
        action_head: ``tied`` takes the action logits from the language model's head,
            ``separate`` from a matrix of their own, which starts as those rows.
        attention: of the prefix, which sees itself from left to right (``causal``) or as a whole
            (``bidirectional``). ``full``: the prefix sees the actions too, and no cache is exact.
            The actions always see the prefix and one another.
        tied_embeddings: whether the language model's head is its embedding.
    """

    architecture: Architecture = "emu3"
    vocabulary_size: int = 184_622
    width: int = 4096
    mlp_width: int = 14_336
    layers: int = 32
    heads: int = 32
    key_value_heads: int = 8
    max_positions: int = 9216
    norm_epsilon: float = 1e-5
    rope_theta: float = 1_000_000.0
    tied_embeddings: bool = False
    shift: bool = True
    action_head: Head = "tied"
    attention: Attention = "causal"

    def __post_init__(self) -> None:
        """Check the switches and that the heads fit."""
        for name, kind in (
            ("architecture", Architecture),
            ("attention", Attention),
            ("action_head", Head),
        ):
            value = getattr(self, name)
            if value not in get_args(kind):
                choices = ", ".join(get_args(kind))
                raise BackboneError(f"{name} is {value!r}; choose one of {choices}")
        if self.width % self.heads or self.heads % self.key_value_heads:
            raise BackboneError(
                f"width {self.width} must be a multiple of heads {self.heads}, and that of "
                f"key_value_heads {self.key_value_heads}"
            )


def make_backbone(config: UnifiedConfig) -> nn.Module:
    """Return the network with random weights, on the default device (meta: without any)."""
    sizes = {
        "vocab_size": config.vocabulary_size,
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_value_heads,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tied_embeddings,
        "attention_dropout": 0.0,
        # None of these is used; those of Emu3 may lie outside a smaller vocabulary.
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0),
    }
    if config.architecture == "emu3":
        made, kind = Emu3TextConfig(**sizes), Emu3ForCausalLM
    else:
        made, kind = LlamaConfig(**sizes), LlamaForCausalLM
    made._attn_implementation = "sdpa"
    backbone = kind(made)
    backbone.model.embed_tokens.padding_idx = None  # or one id would never be trained
    return backbone


def restore_buffers(backbone: nn.Module, device: torch.device | str) -> None:
    """Make what a network built on the meta device lacks beside its weights: the rotation."""
    model = backbone.model
    with torch.device(device):
        model.rotary_emb = type(model.rotary_emb)(model.config)
