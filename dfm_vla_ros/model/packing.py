"""Linear layers with one input as one matrix product, without a second copy of the weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dfm_vla_ros.model.int8 import Int8Linear, int8_linear


class Packed:
    """Several linear layers of one input; their weights become views of one tensor.

    The layers' own parameters keep their names and shapes: loading, saving and training go on as
    before, in place. Replacing a parameter, or moving it, needs a new pack.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        """Join the weights of ``layers``."""
        self.sizes = [layer.weight.shape[0] for layer in layers]
        self.weight = _join([layer.weight for layer in layers])
        self.bias = self.scale = None
        if isinstance(layers[0], Int8Linear):
            self.scale = _join([layer.scale for layer in layers])
        if layers[0].bias is not None:
            self.bias = _join([layer.bias for layer in layers])

    def __call__(self, x: Tensor, first: int | None = None) -> Tensor:
        """Return all outputs of ``x``, or only the ``first`` ones, (..., sum of sizes)."""
        rows = slice(first)
        bias = None if self.bias is None else self.bias[rows]
        if self.scale is not None:
            return int8_linear(x, self.weight[rows], self.scale[rows], bias)
        return nn.functional.linear(x, self.weight[rows], bias)


def _join(tensors: Sequence[Tensor]) -> Tensor:
    """Return one tensor of the rows of all, and make each a view of it."""
    joined = torch.cat([tensor.detach() for tensor in tensors])
    parts = joined.split([len(tensor) for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.data = part
    return joined
