"""The processes of a run: one, or those that ``accelerate launch`` started."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Generic, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from dfm_vla_ros.schema import ConfigError
from dfm_vla_ros.training.config import TrainConfig

PATIENCE = timedelta(hours=3)
"""The first process evaluates while the others wait."""


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Return what knows the device and the other processes.

    Raises:
        ConfigError: there is no GPU, or the batch cannot be shared out.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch finds no GPU: set device=cpu")
    torch.set_num_threads(config.threads)
    if not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)  # of an earlier run
    accelerator = Accelerator(
        cpu=config.device == "cpu" or not torch.cuda.is_available(),
        mixed_precision="no",  # the loop's own autocast
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=PATIENCE),
            DistributedDataParallelKwargs(broadcast_buffers=False),
        ],
    )
    share = accelerator.num_processes * config.accumulate
    if config.batch % share:
        raise ConfigError(
            f"batch is {config.batch}: give a multiple of processes * accumulate, {share}"
        )
    return accelerator


def total(accelerator: Accelerator, value: float | torch.Tensor) -> float:
    """Return the sum of ``value`` over all processes."""
    if accelerator.num_processes == 1:
        return float(value)
    part = torch.as_tensor(value, dtype=torch.float64, device=accelerator.device)
    return float(accelerator.reduce(part, "sum"))


class Stop:
    """Whether SIGINT or SIGTERM came: the run then ends after the step, with its state saved."""

    def __init__(self) -> None:
        """None came."""
        self.signal: int | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the first signal meanwhile; the second has its usual effect."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, frame: object) -> None:
            self.signal = number
            signal.signal(number, before[number])

        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


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


Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """``make(step)`` of step after step.

    Attributes:
        waited_s: how long the callers of `take` have waited altogether [s].
    """

    def __init__(self, make: Callable[[int], Item], last: int) -> None:
        """Make items up to step ``last``."""
        self._make, self._last = make, last
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: tuple[int, Future[Item]] | None = None
        self.waited_s = 0.0

    def take(self, step: int) -> Item:
        """Return the item of ``step`` and begin with the next; errors of ``make`` come here."""
        if self._ahead is None or self._ahead[0] != step:
            self._ahead = step, self._pool.submit(self._make, step)
        began = time.perf_counter()
        item = self._ahead[1].result()
        self.waited_s += time.perf_counter() - began
        self._ahead = None
        if step < self._last:
            self._ahead = step + 1, self._pool.submit(self._make, step + 1)
        return item

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)
