"""Weights in 8 bits: small errors, half the memory, the same joined products."""

from __future__ import annotations

import pytest
import torch
from networks import action_tokens, prefix_ids, unified
from torch import nn

from dfm_vla_ros.model.stack import Int8Linear, Packed, to_int8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_that_an_8_bit_layer_is_within_its_rounding(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 32, bias=bias).to(dtype)
    x = torch.randn(3, 5, 64, dtype=dtype)
    small = Int8Linear(layer.weight.detach(), layer.bias)
    restored = small.weight.to(dtype) * small.scale[:, None]
    bound = small.scale.float()[:, None] * 0.5 + 2e-3 * layer.weight.abs()
    assert ((restored - layer.weight).abs().float() <= bound).all()
    error = (small(x) - layer(x)).float().norm() / layer(x).float().norm()
    assert error < 0.01


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_that_joined_layers_compute_the_same_and_share_their_weights(kind: str) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(16, n) for n in (8, 4, 4)]
    if kind == "int8":
        layers = [Int8Linear(layer.weight.detach(), layer.bias.detach()) for layer in layers]
    x = torch.randn(2, 16)
    expected = torch.cat([layer(x) for layer in layers], dim=-1)
    pack = Packed(layers)
    torch.testing.assert_close(pack(x), expected)
    torch.testing.assert_close(pack(x, 8), expected[:, :8])
    assert pack.weight.untyped_storage().data_ptr() == (
        layers[2].weight.untyped_storage().data_ptr()
    )


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_that_large_layers_on_a_cpu_stay_in_their_mapped_file(kind: str) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(16, n) for n in (8, 4, 4)]
    if kind == "int8":
        layers = [Int8Linear(layer.weight.detach(), layer.bias.detach()) for layer in layers]
    where = [layer.weight.data_ptr() for layer in layers]
    x = torch.randn(2, 16)
    expected = torch.cat([layer(x) for layer in layers], dim=-1)
    pack = Packed(layers, largest_on_cpu=layers[0].weight.nbytes)
    assert [layer.weight.data_ptr() for layer in layers] == where
    torch.testing.assert_close(pack(x), expected)
    torch.testing.assert_close(pack(x, 12), expected[:, :12])
    layers[2].forward = lambda x: pytest.fail("computed in vain")
    torch.testing.assert_close(pack(x, 12), expected[:, :12])


def test_that_a_refiner_in_8_bits_is_close_to_itself_and_half_of_bf16() -> None:
    exact, small = unified().bfloat16(), unified().bfloat16()
    to_int8(small.layers.layers)
    ids, tokens = prefix_ids(), action_tokens(1)[0]
    expected = exact.denoise(tokens, exact.prefill(ids))
    logits = small.denoise(tokens, small.prefill(ids))
    correlation = torch.corrcoef(torch.stack([logits.flatten(), expected.flatten()]))[0, 1]
    assert correlation > 0.98

    def bytes_of(module: nn.Module) -> int:
        return sum(t.numel() * t.element_size() for t in module.state_dict().values())

    layers = (bytes_of(refiner.layers.layers) for refiner in (small, exact))
    assert next(layers) / next(layers) == pytest.approx(0.5, abs=0.02)
