"""The small refiner: a Llama whose clean prefix never attends to the noisy action tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from dfm_vla_ros.model.caching import Caching, ChunkCache
from dfm_vla_ros.model.engine import Extend, Incremental
from dfm_vla_ros.model.vision import split_codes


def cosine_features(vocabulary_size: int, count: int) -> Tensor:
    """Return (K, F) features ``cos(pi k (i + 1/2) / K) / (1 + k / 6)``, k = 0..F-1.

    The damping makes low frequencies, that is coarse position, the cheapest to use.
    """
    tokens = torch.arange(vocabulary_size, dtype=torch.float64) + 0.5
    k = torch.arange(count, dtype=torch.float64)
    angles = math.pi / vocabulary_size * tokens[:, None] * k[None]
    return (angles.cos() / (1 + k / 6)).float()


@dataclass(frozen=True)
class RefinerConfig:
    """Sizes of the token sequence and of the network.

    Sequence: ``text_length`` words, one position a merged square of image tokens for each view
    (there may be no views), one position an arm (its measured and commanded joints), one for all
    ``poses`` numbers of the objects' poses if there are any, then the actions. ``grouping``
    consecutive action tokens share one position (``action_dim``: one position a step; 1: one a
    token); each token still has its own distribution over the vocabulary. ``outputs`` says what
    the network gives for a token: its K ``logits``; these and, last, a velocity head's raw
    ``rates``; or one ``values``, the token itself on a scale from -1 to 1 (regression).
    """

    views: int
    grid: int
    levels: tuple[int, ...]
    text_vocabulary: int
    text_length: int
    proprioception_vocabulary: int
    arms: int
    horizon: int
    action_dim: int
    action_vocabulary: int
    grouping: int
    merge: int = 4
    patch_width: int = 32
    width: int = 192
    layers: int = 4
    heads: int = 6
    cosines: int = 64
    poses: int = 0
    pose_vocabulary: int = 2048
    outputs: Literal["logits", "rates", "values"] = "logits"

    @property
    def prefix_length(self) -> int:
        """Positions before the first action."""
        squares = self.views * (self.grid // self.merge) ** 2
        return self.text_length + squares + self.arms + bool(self.poses)

    @property
    def action_length(self) -> int:
        """Positions of the actions."""
        return self.horizon * self.action_dim // self.grouping


@dataclass(frozen=True)
class Prefix:
    """What is clean, as tokens: text (B, L), codes (B, V, G * G), proprioception (B, 2 * D).

    Proprioception is the D measured joints, then the D commanded ones. Codes are None without
    views; poses (B, P) are None without poses.
    """

    text: Tensor
    codes: Tensor | None
    proprioception: Tensor
    poses: Tensor | None = None


class Refiner(Incremental):
    """Predicts p(x_1 | x_t, prefix) for all N = horizon * action_dim action tokens at once.

    Token K, one past the vocabulary, is MASK: it says nothing about its position.
    """

    def __init__(self, config: RefinerConfig) -> None:
        """Make the layers of ``config``."""
        super().__init__()
        self.config = c = config
        self.backbone = LlamaModel(_llama(c))
        self.backbone.embed_tokens = nn.Identity()  # embeddings are our own
        self.text_embedding = nn.Embedding(c.text_vocabulary, c.width)
        if c.views:
            self.level_embedding = nn.Embedding(sum(c.levels), c.patch_width)
            self.patch_position = nn.Parameter(torch.zeros(c.views, c.grid**2, c.patch_width))
            self.patch_mixer = nn.Conv2d(c.patch_width, 2 * c.patch_width, 3, padding=1)
            self.patch_merger = nn.Linear(2 * c.patch_width * c.merge**2, c.width)
        per_arm = 2 * c.action_dim // c.arms * c.cosines
        self.proprioception_embedding = nn.Linear(per_arm, c.width)
        if c.poses:
            self.pose_embedding = nn.Linear(c.poses * c.cosines, c.width)
        self.action_embedding = nn.Linear(c.grouping * c.cosines, c.width)
        self.position = nn.Parameter(torch.zeros(c.prefix_length + c.action_length, c.width))
        self.head = nn.Linear(c.width, c.grouping * (1 if c.outputs == "values" else c.cosines))
        if c.outputs == "rates":
            self.rate_head = nn.Linear(c.width, c.grouping)
        self._initialise()

    def _initialise(self) -> None:
        c = self.config
        for table in (*([self.patch_position] if c.views else []), self.position):
            nn.init.normal_(table, std=0.5)
        nn.init.normal_(self.text_embedding.weight, std=0.5)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        offsets = torch.tensor((0, *c.levels[:-1])).cumsum(0)
        self.register_buffer("level_offsets", offsets, persistent=False)
        actions = cosine_features(c.action_vocabulary, c.cosines)
        mask = torch.zeros(1, c.cosines)
        self.register_buffer("action_features", torch.cat([actions, mask]), persistent=False)
        joints = cosine_features(c.proprioception_vocabulary, c.cosines)
        self.register_buffer("proprioception_features", joints, persistent=False)
        if c.poses:
            poses = cosine_features(c.pose_vocabulary, c.cosines)
            self.register_buffer("pose_features", poses, persistent=False)

    def embed_prefix(self, prefix: Prefix) -> Tensor:
        """Return (B, prefix_length, width)."""
        c, batch = self.config, prefix.text.shape[0]
        joints = self.proprioception_features[prefix.proprioception]
        joints = joints.view(batch, 2, c.arms, -1, c.cosines).transpose(1, 2)
        arms = self.proprioception_embedding(joints.reshape(batch, c.arms, -1))
        parts = [self.text_embedding(prefix.text), arms]
        if c.views:
            parts.insert(1, self._embed_images(prefix.codes))
        if c.poses:
            poses = self.pose_features[prefix.poses].flatten(1)
            parts.append(self.pose_embedding(poses)[:, None])
        return torch.cat(parts, dim=1) + self.position[: c.prefix_length]

    def _embed_images(self, codes: Tensor) -> Tensor:
        c, batch = self.config, codes.shape[0]
        digits = split_codes(codes, c.levels) + self.level_offsets
        patches = self.level_embedding(digits).sum(-2) + self.patch_position
        patches = patches.view(batch * c.views, c.grid, c.grid, c.patch_width)
        mixed = nn.functional.gelu(self.patch_mixer(patches.permute(0, 3, 1, 2)))
        squares = nn.functional.pixel_unshuffle(mixed, c.merge).flatten(2).transpose(1, 2)
        return self.patch_merger(squares).reshape(batch, -1, c.width)

    def embed_actions(self, tokens: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
        """Return (B, end - begin, width) of ``tokens`` (B, N'), summed in each position.

        Args:
            tokens: whole positions from the first one on.
            begin: first position wanted.
            end: past the last one; default: all.
        """
        c = self.config
        end = c.action_length if end is None else end
        tokens = tokens[:, begin * c.grouping : end * c.grouping]
        features = self.action_features[tokens].view(-1, end - begin, c.grouping * c.cosines)
        place = self.position[c.prefix_length + begin : c.prefix_length + end]
        return self.action_embedding(features) + place

    def logits(self, hidden: Tensor) -> Tensor:
        """Return fp32 for ``hidden`` (B, action_length, width).

        Returns:
            (B, N, K) logits, (B, N, K + 1) with raw rates or (B, N, 1) values; see the config.
        """
        c, batch = self.config, hidden.shape[0]
        if c.outputs == "values":
            return self.head(hidden).float().view(batch, -1, 1)
        weights = self.head(hidden).float().view(batch, -1, c.cosines)
        logits = weights @ self.action_features[:-1].T
        if c.outputs == "logits":
            return logits
        return torch.cat([logits, self.rate_head(hidden).float().view(batch, -1, 1)], dim=-1)

    @torch.no_grad()
    def prefill(
        self,
        prefix: Prefix,
        caching: Caching | None = None,
        validation_from: int | None = None,
        into: ChunkCache | None = None,
    ) -> ChunkCache:
        """Return the keys and values of the prefix: they do not depend on the actions.

        Args:
            prefix: of B samples.
            caching: what the evaluations of this chunk keep; default: the prefix.
            validation_from: number of the evaluation from which on nothing is reused.
            into: cache of an earlier chunk that is done with.
        """
        embedded, room = self.embed_prefix(prefix), self.config.action_length
        caching = caching or Caching()
        return self.stack.prefill(embedded, room, False, caching, validation_from, into)

    @torch.no_grad()
    def denoise(self, tokens: Tensor, cache: ChunkCache) -> Tensor:
        """Return logits (B, N, K) of x_1 for ``tokens`` (B, N), given the prefix's ``cache``."""
        c = self.config
        if cache.embedded is not None:
            self.stack.fill(cache.embedded, cache, causal=False)
        embedded = self.embed_actions(tokens)
        if cache.caching.mode != "adaptive":
            return self.logits(self.stack.block(embedded, cache))
        changed = cache.due(tokens)
        if changed is None:
            return self.logits(self.stack.block(embedded, cache, keep=True))
        changed = changed.view(-1, c.action_length, c.grouping).any(-1)
        return self.logits(self.stack.refresh(embedded, changed, cache))

    @torch.no_grad()
    def next_logits(
        self,
        tokens: Tensor,
        first: int,
        count: int,
        cache: ChunkCache,
        extend: Extend | None = None,
    ) -> Tensor:
        """Return logits (B, count, K) of tokens first..first + count - 1 given those before.

        For a network that was trained causally over the actions: position g has the tokens of
        position g - 1 as its input, MASK where there are none. See `flow.baselines`.

        Raises:
            FlowError: the tokens asked for are not those of one position.
        """
        c = self.config
        self.check_group(first, count, c.grouping)
        shifted = self._shifted(tokens[:, : first + c.grouping])
        begin = self.first_new(first, count, cache) // c.grouping
        embedded = self.embed_actions(shifted, begin, first // c.grouping + 1)
        hidden = self.extended(embedded, begin, cache, extend)
        return self.logits(hidden[:, -1:])

    def forward(self, prefix: Prefix, tokens: Tensor, causal: bool = False) -> Tensor:
        """Return logits (B, R, N, K) for R noised replicas ``tokens`` (B, R, N) of one prefix.

        One pass: the replicas share the prefix and do not see each other.

        Args:
            prefix: of B samples.
            tokens: (B, R, N).
            causal: whether a position is to predict its tokens from those of the positions
                before, as `next_logits` does, all of them at once.
        """
        c, (batch, replicas, count) = self.config, tokens.shape
        tokens = tokens.reshape(batch * replicas, count)
        actions = self.embed_actions(self._shifted(tokens) if causal else tokens)
        embedded = torch.cat(
            [self.embed_prefix(prefix), actions.view(batch, replicas * c.action_length, c.width)],
            dim=1,
        )
        hidden = self.backbone(
            inputs_embeds=embedded,
            attention_mask=self._mask(replicas, embedded, causal),
            position_ids=self._positions(replicas, tokens.device),
            use_cache=False,
        ).last_hidden_state[:, c.prefix_length :]
        logits = self.logits(hidden.reshape(batch * replicas, c.action_length, c.width))
        return logits.view(batch, replicas, count, -1)

    def _positions(self, replicas: int, device: torch.device) -> Tensor:
        start, length = self.config.prefix_length, self.config.action_length
        actions = torch.arange(start, start + length, device=device).repeat(replicas)
        return torch.cat([torch.arange(start, device=device), actions])[None]

    def _shifted(self, tokens: Tensor) -> Tensor:
        """Return ``tokens`` (B, N') a position later, MASK in the first."""
        c = self.config
        shifted = tokens[:, : tokens.shape[1] - c.grouping]
        return nn.functional.pad(shifted, (c.grouping, 0), value=c.action_vocabulary)

    def _mask(self, replicas: int, like: Tensor, causal: bool) -> Tensor:
        """Additive (1, 1, L, L): prefix sees prefix; a replica sees the prefix and itself.

        Where it is causal, a replica sees of itself what is not later.
        """
        c = self.config
        length = c.action_length
        group = torch.zeros(c.prefix_length + replicas * length, dtype=torch.long)
        group[c.prefix_length :] = torch.arange(1, replicas + 1).repeat_interleave(length)
        seen = (group[None, :] == 0) | (group[:, None] == group[None, :])
        if causal:
            seen[c.prefix_length :].tril_(c.prefix_length)
        mask = torch.zeros(seen.shape, dtype=like.dtype)
        return mask.masked_fill(~seen, torch.finfo(like.dtype).min)[None, None].to(like.device)


def _llama(config: RefinerConfig) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=1,
        hidden_size=config.width,
        intermediate_size=config.width * 8 // 3,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="sdpa",
    )
