"""Weights in 8 bits, one scale a row: half the memory of bf16 at about 1/250 of relative error."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
