"""Parameters whole or in shards (FSDP): the same few operations for both."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(network: nn.Module, device: torch.device) -> None:
    """Share the parameters of ``network`` out among all processes (FSDP2), layer by layer."""
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for stack in [module for module in network.modules() if isinstance(module, nn.ModuleList)]:
        for layer in stack:
            fully_shard(layer, mesh=mesh)
    # The root too: between steps all parameters are shards.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def trained(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield (name, parameter) of those that are trained."""
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            yield name, parameter


def local(value: Tensor) -> Tensor:
    """Return what this process has of ``value``, without copying."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: Tensor) -> Tensor:
    """Return a copy of all of ``value`` on the CPU; every process must call this."""
    value = value.detach()
    value = value.full_tensor() if isinstance(value, DTensor) else value
    return value.to("cpu", copy=True).contiguous()


def placed(value: Tensor, like: Tensor) -> Tensor:
    """Return the whole ``value`` where and as ``like`` is."""
    if isinstance(like, DTensor):
        device = like.device_mesh.device_type
        return distribute_tensor(value.to(device), like.device_mesh, like.placements)
    return value.to(like.device)


@torch.no_grad()
def fill(parameter: Tensor, value: Tensor) -> None:
    """Copy the whole ``value`` into ``parameter``."""
    local(parameter).copy_(local(placed(value, parameter)))
