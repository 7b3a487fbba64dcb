"""Linear layers with one input as one matrix product, without a second copy of the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dfm_vla_ros.model.int8 import Int8Linear, int8_linear

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
