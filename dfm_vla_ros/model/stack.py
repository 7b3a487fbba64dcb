"""The layers of a Llama-like decoder, walked with keys and values that stay in place.

The modules and weights are those of transformers (LlamaModel, Emu3TextModel). Their own forward
pass joins the cached prefix with the new keys, builds masks and repeats grouped heads in every
layer and step; here the keys of the actions are written behind those of the prefix, and query
heads that share keys are one batch of queries, so no mask and no copy is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from dfm_vla_ros.model.caching import Caching, ChunkCache


class Int8Linear(nn.Module):
    """A linear layer whose weights are ``scale[i] * weight[i, j]``, integers within +-127.

    Activations keep their type: only the memory for weights, and the time to read them from it,
    are saved.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Quantise ``weight`` (out, in) on the device that it is on."""
        super().__init__()
        integers, scale = quantise(weight)
        self.register_buffer("weight", integers)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) of (..., in)."""
        return int8_linear(x, self.weight, self.scale, self.bias)


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 (out, in) and the scale of every row (out,), in the type of ``weight``."""
    scale = weight.abs().amax(1).float().clamp(min=1e-30) / 127
    scale = scale.to(weight.dtype)
    integers = (weight.float() / scale.float()[:, None]).round_().clamp_(-127, 127)
    return integers.to(torch.int8), scale


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``x @ (scale * weight).T + bias`` in the type of ``x``."""
    if x.dtype == torch.bfloat16 and x.device.type == "cpu":
        flat = x.reshape(-1, x.shape[-1])
        product = torch._weight_int8pack_mm(flat, weight, scale).view(*x.shape[:-1], -1)
    else:
        product = nn.functional.linear(x, weight.to(x.dtype)) * scale.to(x.dtype)
    return product if bias is None else product + bias


def to_int8(module: nn.Module) -> None:
    """Replace every linear layer within ``module``, one at a time, by an `Int8Linear`."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child.weight.detach(), child.bias))
        else:
            to_int8(child)


LARGEST_ON_CPU = 1 << 23
"""Bytes that are joined on a CPU. Larger products gain nothing there, and joining would copy the
weights out of the mapped file, whose pages stay counted."""


class Packed:
    """Several linear layers of one input; their weights become views of one tensor.

    The layers' own parameters keep their names and shapes: loading, saving and training go on as
    before, in place. Replacing a parameter, or moving it, needs a new pack.
    """

    def __init__(self, layers: Sequence[nn.Module], largest_on_cpu: int = LARGEST_ON_CPU) -> None:
        """Join the weights of ``layers``, unless they are on a CPU and large [bytes]."""
        self.sizes = [layer.weight.shape[0] for layer in layers]
        weights = [layer.weight for layer in layers]
        self.layers = None
        if weights[0].device.type == "cpu" and sum(w.nbytes for w in weights) > largest_on_cpu:
            self.layers = tuple(layers)
            return
        self.weight = _join(weights)
        self.bias = self.scale = None
        if isinstance(layers[0], Int8Linear):
            self.scale = _join([layer.scale for layer in layers])
        if layers[0].bias is not None:
            self.bias = _join([layer.bias for layer in layers])

    def __call__(self, x: Tensor, first: int | None = None) -> Tensor:
        """Return all outputs of ``x``, or only the ``first`` ones, (..., sum of sizes)."""
        if self.layers is not None:
            return self._each(x, sum(self.sizes) if first is None else first)
        rows = slice(first)
        bias = None if self.bias is None else self.bias[rows]
        if self.scale is not None:
            return int8_linear(x, self.weight[rows], self.scale[rows], bias)
        return nn.functional.linear(x, self.weight[rows], bias)

    def _each(self, x: Tensor, first: int) -> Tensor:
        """Return the ``first`` outputs, computing no layer behind them."""
        outputs, count = [], 0
        for layer, size in zip(self.layers, self.sizes, strict=True):
            if count >= first:
                break
            outputs.append(layer(x))
            count += size
        return torch.cat(outputs, dim=-1)[..., :first]


def _join(tensors: Sequence[Tensor]) -> Tensor:
    """Return one tensor of the rows of all, and make each a view of it."""
    joined = torch.cat([tensor.detach() for tensor in tensors])
    parts = joined.split([len(tensor) for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.data = part
    return joined


class Stack:
    """Inference through the layers of ``backbone``; make another after moving its weights."""

    def __init__(self, backbone: nn.Module) -> None:
        """Join the weights of each layer that have one input; see `Packed`."""
        config = backbone.config
        self.layers = list(backbone.layers)
        self.norm, self.rotary = backbone.norm, backbone.rotary_emb
        self.heads = config.num_attention_heads
        self.groups = config.num_key_value_heads
        self.head = self.layers[0].self_attn.head_dim
        attentions = [layer.self_attn for layer in self.layers]
        self.project = [Packed((a.q_proj, a.k_proj, a.v_proj)) for a in attentions]
        self.widen = [Packed((x.mlp.gate_proj, x.mlp.up_proj)) for x in self.layers]
        self.keyed = (self.heads + self.groups) * self.head

    def prefill(
        self,
        embedded: Tensor,
        room: int,
        causal: bool,
        caching: Caching,
        validation_from: int | None = None,
        into: ChunkCache | None = None,
        positions: Tensor | None = None,
    ) -> ChunkCache:
        """Return the cache of a prefix that sees itself alone.

        Args:
            embedded: (B, P, width).
            room: positions of the actions.
            causal: whether a position sees only those before it.
            caching: what to keep.
            validation_from: see `ChunkCache`.
            into: cache of an earlier chunk, whose memory is used again if it fits.
            positions: (P + room,) for the rotary embedding; default: 0, 1, 2, ...
        """
        batch, length, _ = embedded.shape
        shape = (batch, self.groups, length + room, self.head)
        if into is not None and into.keys[0].shape == shape and into.length == length:
            cache = into.started(caching, validation_from)
        else:
            if positions is None:
                positions = torch.arange(length + room, device=embedded.device)
            cosine, sine = self._rotation(embedded, positions)
            keys, values = ([embedded.new_zeros(shape) for _ in self.layers] for _ in range(2))
            cache = ChunkCache(caching, validation_from, keys, values, length, cosine, sine)
        if caching.mode == "off":
            cache.embedded = embedded
        else:
            self.fill(embedded, cache, causal)
        return cache

    def fill(self, embedded: Tensor, cache: ChunkCache, causal: bool) -> Tensor:
        """Compute ``embedded`` (B, P', width) from position 0 on, its keys into the cache."""
        rows = slice(0, embedded.shape[1])
        hidden = embedded
        for number, layer in enumerate(self.layers):
            q, k, v = self._queries(number, self._input(layer, hidden), cache, rows)
            self._write(cache, number, rows, k, v)
            seen = scaled_dot_product_attention(
                q.transpose(1, 2),
                k.transpose(1, 2),
                v.transpose(1, 2),
                is_causal=causal,
                enable_gqa=self.groups != self.heads,
            )
            hidden = self._finish(number, hidden, seen.transpose(1, 2).flatten(2))
        return self._normed(self.norm, hidden)

    def block(self, hidden: Tensor, cache: ChunkCache, keep: bool = False) -> Tensor:
        """Return (B, n, width) of the actions' positions, which see the prefix and one another.

        Args:
            hidden: (B, n, width), embedded.
            cache: of the prefix; the keys behind it are overwritten.
            keep: whether to remember outputs for `refresh`.
        """
        rows = slice(cache.length, cache.length + hidden.shape[1])
        if keep:
            cache.kept.values.clear()
            cache.kept.added.clear()
        for number, layer in enumerate(self.layers):
            q, k, v = self._queries(number, self._input(layer, hidden), cache, rows)
            self._write(cache, number, rows, k, v)
            seen = self._attend(q, cache.keys[number], cache.values[number])
            after = self._finish(number, hidden, seen)
            if keep:
                cache.kept.values.append(v.flatten(2).clone())
                cache.kept.added.append(after - hidden)
                cache.tally(hidden.shape[1], hidden.shape[1])
            hidden = after
        return self._normed(self.norm, hidden)

    def refresh(self, hidden: Tensor, changed: Tensor, cache: ChunkCache) -> Tensor:
        """Return as `block` does, computing only positions whose values changed most.

        Of every layer: values v of all n positions; the cosine similarity of each to the value
        when the position was last computed; queries, keys, attention and MLP for those of the
        lowest similarity (arXiv 2603.26320; dLLM-Cache, arXiv 2506.06295) and those whose token
        changed; for the others what the layer added to its input then.

        Args:
            hidden: (B, n, width), embedded.
            changed: (B, n) bool, positions to compute in any case.
            cache: after a `block` with ``keep``.
        """
        begin, count = cache.length, hidden.shape[1]
        most = int(changed.sum(1).max())
        for number, layer in enumerate(self.layers):
            kept, added = cache.kept.values[number], cache.kept.added[number]
            normed = self._input(layer, hidden)
            v = layer.self_attn.v_proj(normed)
            cache.values[number][:, :, begin : begin + count] = self._split(v).transpose(1, 2)
            score = torch.cosine_similarity(v.float(), kept.float(), dim=-1)
            score = score.masked_fill(changed, -2.0)
            number_due = min(cache.caching.count(score, most), count)
            cache.tally(number_due, count)
            if number_due == 0:
                hidden = hidden + added
                continue
            rows = score.topk(number_due, largest=False, sorted=False).indices
            after = self._renew(number, hidden, normed, rows, cache)
            wide = rows.unsqueeze(-1)
            kept.scatter_(1, wide.expand(-1, -1, v.shape[-1]), _pick(v, rows))
            wide = wide.expand(-1, -1, hidden.shape[-1])
            added.scatter_(1, wide, after - _pick(hidden, rows))
            hidden = (hidden + added).scatter_(1, wide, after)
        return self._normed(self.norm, hidden)

    def _renew(
        self, number: int, hidden: Tensor, normed: Tensor, rows: Tensor, cache: ChunkCache
    ) -> Tensor:
        """Return the layer's output (B, m, width) of positions ``rows`` (B, m) of the block."""
        qk = self.project[number](_pick(normed, rows), self.keyed)
        qk = qk.unflatten(-1, (-1, self.head))
        at = rows + cache.length
        qk = _rotate(qk, cache.cosine[at].unsqueeze(2), cache.sine[at].unsqueeze(2))
        q, k = qk.split((self.heads, self.groups), dim=2)
        place = at[:, None, :, None].expand(-1, self.groups, -1, self.head)
        cache.keys[number].scatter_(2, place, k.transpose(1, 2))
        seen = self._attend(q, cache.keys[number], cache.values[number])
        return self._finish(number, _pick(hidden, rows), seen)

    def extend(self, hidden: Tensor, positions: Tensor, cache: ChunkCache) -> Tensor:
        """Return (B, n, width) of consecutive positions that see all up to themselves.

        Shapes do not depend on where they are, so that a graph of it can be captured.

        Args:
            hidden: (B, n, width), embedded.
            positions: (n,) in the sequence; all before are in the cache.
            cache: their keys and values are added.
        """
        total = cache.keys[0].shape[2]
        seen_by = torch.arange(total, device=positions.device) <= positions[:, None]
        # Query heads that share keys follow one another in the folded queries of `_attend`.
        mask = seen_by.repeat(self.heads // self.groups, 1)
        for number, layer in enumerate(self.layers):
            qkv = self.project[number](self._input(layer, hidden))
            q, k, v = self._rotated(qkv, cache.cosine[positions], cache.sine[positions])
            cache.keys[number].index_copy_(2, positions, k.transpose(1, 2))
            cache.values[number].index_copy_(2, positions, v.transpose(1, 2))
            seen = self._attend(q, cache.keys[number], cache.values[number], mask)
            hidden = self._finish(number, hidden, seen)
        return self._normed(self.norm, hidden)

    def _rotation(self, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        cosine, sine = self.rotary(like, positions[None])
        sine = sine[0].clone()
        sine[:, : self.head // 2].neg_()
        return cosine[0], sine

    def _input(self, layer: nn.Module, hidden: Tensor) -> Tensor:
        return self._normed(layer.input_layernorm, hidden)

    @staticmethod
    def _normed(norm: nn.Module, hidden: Tensor) -> Tensor:
        return rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head))

    def _queries(
        self, number: int, normed: Tensor, cache: ChunkCache, rows: slice
    ) -> tuple[Tensor, Tensor, Tensor]:
        return self._rotated(self.project[number](normed), cache.cosine[rows], cache.sine[rows])

    def _rotated(self, qkv: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q (B, n, H, d), k and v (B, n, G, d) of ``qkv`` (B, n, (H + 2 G) d)."""
        split = self._split(qkv)
        qk, v = split.split((self.heads + self.groups, self.groups), dim=2)
        q, k = _rotate(qk, cosine[:, None], sine[:, None]).split((self.heads, self.groups), dim=2)
        return q, k, v

    @staticmethod
    def _write(cache: ChunkCache, number: int, rows: slice, k: Tensor, v: Tensor) -> None:
        cache.keys[number][:, :, rows] = k.transpose(1, 2)
        cache.values[number][:, :, rows] = v.transpose(1, 2)

    def _attend(
        self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Return (B, n, H d) for q (B, n, H, d); the heads of a group are queries of one."""
        batch, count = q.shape[:2]
        each = self.heads // self.groups
        folded = q.view(batch, count, self.groups, each, self.head).permute(0, 2, 3, 1, 4)
        folded = folded.reshape(batch, self.groups, each * count, self.head)
        seen = scaled_dot_product_attention(folded, keys, values, attn_mask=mask)
        seen = seen.view(batch, self.groups, each, count, self.head).permute(0, 3, 1, 2, 4)
        return seen.reshape(batch, count, self.heads * self.head)

    def _finish(self, number: int, hidden: Tensor, seen: Tensor) -> Tensor:
        """Return the layer's output for its input and what its attention saw."""
        layer = self.layers[number]
        hidden = hidden + layer.self_attn.o_proj(seen)
        wide = self.widen[number](self._normed(layer.post_attention_layernorm, hidden))
        gate, up = wide.chunk(2, dim=-1)
        return hidden + layer.mlp.down_proj(layer.mlp.act_fn(gate) * up)


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary embedding: ``x cos + (-x_2, x_1) sin``, the sign already in ``sine``."""
    return x * cosine + x.roll(x.shape[-1] // 2, dims=-1) * sine


def _pick(x: Tensor, rows: Tensor) -> Tensor:
    """Return (B, m, W), rows (B, m) of ``x`` (B, n, W)."""
    return x.gather(1, rows.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
