"""Muon for the transformer's matrices, AdamW for the rest, one cosine schedule for both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from dfm_vla_ros.training.config import TrainConfig


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


Matrices = Callable[[str, nn.Parameter], bool]


def make_optimisers(
    network: nn.Module, config: TrainConfig, matrices: Matrices
) -> list[Optimizer]:
    """Return one or two optimisers for the trained parameters of ``network``."""
    muon, rest, decay = [], [], config.weight_decay
    for name, parameter in trained(network):
        inside = config.optimiser == "muon" and matrices(name, parameter)
        (muon if inside else rest).append(parameter)
    found: list[Optimizer] = []
    if muon:
        same = {"weight_decay": decay, "adjust_lr_fn": "match_rms_adamw"}
        found.append(torch.optim.Muon(muon, config.muon_lr, **same))
    if rest:
        betas = (0.9, config.beta2)
        found.append(torch.optim.AdamW(rest, config.lr, betas, config.epsilon, decay))
    for part in found:
        for group in part.param_groups:
            group["peak_lr"] = group["lr"]
    return found


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Return the factor on the peak rate: linear warm-up, then a cosine to 1%."""
    if step < warmup:
        return (step + 1) / warmup
    return cosine((step - warmup) / max(1, total - warmup))


def cosine(done: float) -> float:
    """Return the factor at the share ``done`` of the way: from 1 to 0.01."""
    return 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, done))) / 2


def rate_factor(config: TrainConfig, step: int, seconds: float) -> float:
    """Return the factor for ``step`` (from 1) after ``seconds`` of training.

    With ``max_seconds`` the cosine follows time where that is further than the steps.
    """
    factor = warmup_cosine(step - 1, config.warmup_steps, config.steps)
    if config.max_seconds <= 0 or step <= config.warmup_steps:
        return factor
    return min(factor, cosine(seconds / config.max_seconds))


def set_rate(optimisers: list[Optimizer], factor: float) -> None:
    """Set the learning rates to ``factor`` of their peaks."""
    for part in optimisers:
        for group in part.param_groups:
            group["lr"] = group["peak_lr"] * factor


def optimiser_state(network: nn.Module, optimisers: list[Optimizer]) -> dict[str, Tensor]:
    """Return ``parameter/key`` -> whole tensor on the CPU; every process must call this."""
    states = {id(p): part.state.get(p, {}) for part in optimisers for p in _parameters(part)}
    return {
        f"{name}/{key}": whole(torch.as_tensor(value))
        for name, parameter in trained(network)
        for key, value in states.get(id(parameter), {}).items()
    }


def restore_optimiser_state(
    network: nn.Module, optimisers: list[Optimizer], saved: dict[str, Tensor]
) -> None:
    """Take back what `optimiser_state` gave."""
    by_id = {id(parameter): name for name, parameter in trained(network)}
    for part in optimisers:
        for parameter in _parameters(part):
            start = by_id[id(parameter)] + "/"
            for name, value in saved.items():
                if name.startswith(start):
                    # A number such as AdamW's step stays on the CPU.
                    same = value.shape == parameter.shape and value.dim() > 0
                    part.state[parameter][name.removeprefix(start)] = (
                        placed(value, parameter.detach()) if same else value.clone()
                    )


def _parameters(part: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in part.param_groups for parameter in group["params"]]


class Average:
    """Follows the trained parameters of a network; in shards where they are."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin at the network's weights; ``decay`` 0 keeps none."""
        self._decay = decay
        self._parameters = dict(trained(network))
        self._values: dict[str, Tensor] = {}
        if decay > 0:
            self._values = {k: local(p.detach()).clone() for k, p in self._parameters.items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Come nearer to the weights after ``step``; faster in the first steps."""
        if not self._values:
            return
        decay = min(self._decay, (step + 1) / (step + 10))
        now = [local(self._parameters[name].detach()) for name in self._values]
        torch._foreach_lerp_(list(self._values.values()), now, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network have the averaged weights meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self._values.items():
            weight = local(self._parameters[name].detach())
            kept = weight.clone()
            weight.copy_(value)
            value.copy_(kept)

    def whole(self) -> dict[str, Tensor]:
        """Return name -> averaged weights, on the CPU; the weights themselves without average."""
        with self.applied():
            return {name: whole(parameter) for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Take back what `whole` gave."""
        for name, value in self._values.items():
            value.copy_(local(placed(values[name], self._parameters[name].detach())))
