"""The refiner over one vocabulary of ids: a causal language model of transformers, refining.

UniVLA's backbone is ``Emu3ForCausalLM``; parameter names and shapes are its own, so a checkpoint
of an autoregressive model is one of a refiner. Position i of such a model predicts the token i + 1
(``shift``): the block that is refined then begins with the last id before the actions, whose
output predicts the first action. The prefix is all before the block and never sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from transformers import Emu3ForCausalLM, Emu3TextConfig, LlamaConfig, LlamaForCausalLM

from dfm_vla_ros.errors import DfmVlaError, FlowError
from dfm_vla_ros.model.caching import Caching, ChunkCache
from dfm_vla_ros.model.engine import Extend, Incremental

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


class UnifiedRefiner(Incremental):
    """Predicts p(x_1 | x_t, prefix) over the action vocabulary alone.

    Token K, one past the vocabulary, is MASK, with the id ``mask_id``.
    """

    def __init__(
        self, config: UnifiedConfig, action_ids: Sequence[int], token_count: int, mask_id: int
    ) -> None:
        """Make the network of ``config``.

        Args:
            config: sizes and switches.
            action_ids: id of every action token 0..K-1.
            token_count: N, action tokens of a chunk.
            mask_id: id that stands for MASK in masked diffusion.
        """
        super().__init__()
        self.config, self.token_count = config, token_count
        self.backbone = make_backbone(config)
        self.action_head: nn.Linear | None = None
        if config.action_head == "separate":
            self.action_head = nn.Linear(config.width, len(action_ids), bias=False)
        ids = torch.tensor([*action_ids, mask_id], device="cpu")
        self.register_buffer("ids", ids, persistent=False)
        self.head_rows: Tensor | None = None
        self.start_head()

    @property
    def layers(self) -> nn.Module:
        """The language model without its head."""
        return self.backbone.model

    @property
    def vocabulary_size(self) -> int:
        """Number of action tokens K."""
        return len(self.ids) - 1

    def start_head(self) -> None:
        """Let a separate action head begin as the language model's: the same logits."""
        if self.action_head is not None and not self.action_head.weight.is_meta:
            with torch.no_grad():
                self.action_head.weight.copy_(self.backbone.lm_head.weight[self.ids[:-1]])

    def embed(self, ids: Tensor) -> Tensor:
        """Return (B, L, width) of vocabulary ``ids`` (B, L)."""
        return self.layers.embed_tokens(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return (..., K) fp32 of ``hidden`` (..., width): the rows of the action ids only."""
        if self.action_head is not None:
            return self.action_head(hidden).float()
        if self.head_rows is not None:
            return linear(hidden, self.head_rows).float()
        return linear(hidden, self.backbone.lm_head.weight[self.ids[:-1]]).float()

    def keep_rows(self, rows: Tensor | None = None) -> None:
        """Keep of the language model's head the action ids' ``rows`` (K, width) alone.

        For inference: the other 183,000 rows of UniVLA's head are 1.5 GB that nothing reads.
        """
        if self.action_head is None and self.head_rows is None:
            rows = self.backbone.lm_head.weight[self.ids[:-1]] if rows is None else rows
            self.head_rows = rows.detach()
        if not self.config.tied_embeddings:
            self.backbone.lm_head = nn.Identity()

    def _apply(self, fn: object, recurse: bool = True) -> UnifiedRefiner:
        if self.head_rows is not None:
            self.head_rows = fn(self.head_rows)
        return super()._apply(fn, recurse)

    def _border(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prefix ids that are cached, and those that begin the block."""
        cut = ids.shape[1] - self.config.shift
        return ids[:, :cut], ids[:, cut:]

    def _block_length(self) -> int:
        return self.token_count + self.config.shift

    @torch.no_grad()
    def prefill(
        self,
        ids: Tensor,
        caching: Caching | None = None,
        validation_from: int | None = None,
        into: ChunkCache | None = None,
    ) -> ChunkCache:
        """Return keys and values of the prefix ``ids`` (B, P): they do not depend on the actions.

        Args:
            ids: all before the actions.
            caching: what the evaluations of this chunk keep; default: the prefix. With full
                attention there is nothing to keep, whatever it says.
            validation_from: number of the evaluation from which on nothing is reused.
            into: cache of an earlier chunk that is done with.
        """
        prefix, tail = self._border(ids)
        caching = caching or Caching()
        if self.config.attention == "full":
            caching = Caching("off")
        causal = self.config.attention == "causal"
        cache = self.stack.prefill(
            self.embed(prefix), self._block_length(), causal, caching, validation_from, into
        )
        cache.border(self.embed(tail))
        return cache

    @torch.no_grad()
    def denoise(self, tokens: Tensor, cache: ChunkCache) -> Tensor:
        """Return logits (B, N, K) of x_1 for ``tokens`` (B, N), given the prefix's ``cache``."""
        block = torch.cat([cache.tail, self.embed(self.ids[tokens])], dim=1)
        if cache.embedded is not None:
            hidden = self._anew(block, cache)
        elif cache.caching.mode == "prefix":
            hidden = self.stack.block(block, cache)
        else:
            hidden = self._adaptive(block, tokens, cache)
        return self.logits(hidden[:, : tokens.shape[1]])

    def _anew(self, block: Tensor, cache: ChunkCache) -> Tensor:
        if self.config.attention == "full":
            whole = torch.cat([cache.embedded, block], dim=1)
            return self.stack.fill(whole, cache, causal=False)[:, cache.length :]
        self.stack.fill(cache.embedded, cache, causal=self.config.attention == "causal")
        return self.stack.block(block, cache)

    def _adaptive(self, block: Tensor, tokens: Tensor, cache: ChunkCache) -> Tensor:
        changed = cache.due(tokens)
        if changed is None:
            return self.stack.block(block, cache, keep=True)
        changed = pad(changed, (int(self.config.shift), 0), value=False)
        return self.stack.refresh(block, changed, cache)

    @torch.no_grad()
    def next_logits(
        self,
        tokens: Tensor,
        first: int,
        count: int,
        cache: ChunkCache,
        extend: Extend | None = None,
    ) -> Tensor:
        """Return logits (B, 1, K) of token ``first`` given those before: the model as it was.

        Raises:
            FlowError: more than one token is asked for, or the network does not predict the
                next token from those before (no ``shift``, or a prefix that is not causal).
        """
        if not self.config.shift or self.config.attention != "causal":
            raise FlowError("only a causal network with shift decodes autoregressively")
        self.check_group(first, count, 1)
        begin = self.first_new(first, count, cache)
        block = torch.cat([cache.tail, self.embed(self.ids[tokens[:, :first]])], dim=1)
        hidden = self.extended(block[:, begin:], begin, cache, extend)
        return self.logits(hidden[:, -1:])

    def forward(
        self,
        ids: Tensor,
        tokens: Tensor,
        causal: bool = False,
        padding: Tensor | None = None,
    ) -> Tensor:
        """Return logits (B, R, N, K) for R noised replicas ``tokens`` (B, R, N) of one prefix.

        One pass of transformers' own modules: the replicas share the prefix ``ids`` (B, P) and do
        not see each other. With full attention, which has no shared prefix, R must be 1.

        Args:
            ids: all before the actions.
            tokens: noised, 0..K.
            causal: whether token i is to be predicted from the tokens before it, as
                `next_logits` does, all of them at once.
            padding: (B,) ids in front of a shorter prefix that stand for nothing; None: none.

        Raises:
            FlowError: replicas with full attention, or ``causal`` without a causal network.
        """
        batch, replicas, count = tokens.shape
        if self.config.attention == "full" and replicas > 1:
            raise FlowError(f"{replicas} replicas share a prefix that sees the actions; give 1")
        if causal and not (self.config.shift and self.config.attention == "causal"):
            raise FlowError("only a causal network with shift is trained autoregressively")
        prefix, tail = self._border(ids)
        tails = tail[:, None].expand(-1, replicas, -1)
        blocks = torch.cat([tails, self.ids[tokens]], dim=2)
        whole = torch.cat([prefix, blocks.flatten(1)], dim=1)
        embedded = self.embed(whole)
        sizes = (prefix.shape[1], replicas, blocks.shape[2])
        hidden = self.layers(
            inputs_embeds=embedded,
            attention_mask=self._mask(*sizes, embedded, causal, padding),
            position_ids=_positions(*sizes, ids.device, padding),
            use_cache=False,
        ).last_hidden_state[:, prefix.shape[1] :]
        hidden = hidden.view(batch, replicas, blocks.shape[2], -1)[:, :, :count]
        return self.logits(hidden)

    def _mask(
        self,
        length: int,
        replicas: int,
        block: int,
        like: Tensor,
        causal: bool,
        padding: Tensor | None,
    ) -> Tensor:
        """Additive (1 or B, 1, L, L); group 0 is the prefix, the replicas are 1..R."""
        group = torch.arange(1, replicas + 1, device=like.device).repeat_interleave(block)
        group = torch.cat([group.new_zeros(length), group])
        seen = (group[None] == 0) | (group[:, None] == group[None])
        if self.config.attention == "full":
            seen = torch.ones_like(seen)
        if self.config.attention == "causal":
            seen[:length, :length].tril_()
        if causal:
            seen = seen.tril()
        seen = seen[None]
        if padding is not None:
            place = torch.arange(len(group), device=like.device)
            # What stands for nothing sees itself, or its row would have nothing to attend to.
            seen = seen & (place >= padding[:, None])[:, None] | torch.eye(
                len(group), dtype=torch.bool, device=like.device
            )
        mask = torch.zeros(seen.shape, dtype=like.dtype, device=like.device)
        return mask.masked_fill(~seen, torch.finfo(like.dtype).min)[:, None]


def _positions(
    length: int, replicas: int, block: int, device: torch.device, padding: Tensor | None = None
) -> Tensor:
    """Return (1 or B, L): every replica stands right behind the prefix."""
    blocks = torch.arange(length, length + block, device=device).repeat(replicas)
    places = torch.cat([torch.arange(length, device=device), blocks])[None]
    return places if padding is None else (places - padding[:, None]).clamp(min=0)
